package proxy

import (
	"time"

	"sluice/metrics"
)

// reasonOfClose is what a session ends with when Close does not wait for it.
const reasonOfClose = metrics.ReasonInternal

// ending is how a session ends: why, and what both sides see of it.
type ending struct {
	reason metrics.Reason
	manner manner
}

type manner uint8

const (
	byFIN    manner = iota // both ends are closed; with bytes still held for one of them, as byRST
	byRST                  // what was under way must not look complete
	atClient               // atClient + side: that connection broke, and the other side is told the same
	atBackend
)

// finished ends a session whose halves are both done.
func finished(s *session) ending { return ending{s.firstEOF, byFIN} }

// timedOut ends one that does not move.
func timedOut(reason metrics.Reason) ending { return ending{reason, byFIN} }

// cutFor ends one in the middle.
func cutFor(reason metrics.Reason) ending { return ending{reason, byRST} }

// brokenAt ends one because the connection of a side broke.
func brokenAt(sd side) ending {
	if sd == backend {
		return ending{metrics.ReasonBackendReset, atBackend}
	}
	return ending{metrics.ReasonClientReset, atClient}
}

// end is the one place where a session ends. Both descriptors are closed after it, the
// slot is free, and its reason is counted.
func (a *Acceptor) end(slot int32, s *session, e ending) {
	a.noteEnd(slot, s, e.reason)
	if s.proving != 0 {
		a.judgeEnd(s, e.reason)
	}
	switch e.manner {
	case atClient, atBackend:
		a.closeBroken(s, side(e.manner-atClient))
	case byFIN:
		if s.half[toBackend].held > 0 || s.half[toClient].held > 0 {
			a.resetBoth(s)
			break
		}
		a.sys.Close(int(s.fd[client]))
		a.sys.Close(int(s.fd[backend]))
	default:
		a.resetBoth(s)
	}
	a.release(slot, s, e.reason)
}

func (a *Acceptor) resetBoth(s *session) {
	for _, fd := range s.fd {
		if fd >= 0 {
			a.sys.Reset(int(fd))
		}
	}
}

// closeBroken tells the other side of a broken one, by a RST: a FIN would say that all
// came through.
//
// It is closed quietly instead if it has been sent its FIN and has not acknowledged
// all that was before it: a RST would take those bytes back, and close(2) sends one
// anyway should more come from there.
func (a *Acceptor) closeBroken(s *session, from side) {
	a.sys.Close(int(s.fd[from]))
	if other := from ^ 1; s.fd[other] >= 0 {
		if s.half[from].state == halfDone && a.hasUnsent(int(s.fd[other])) {
			a.sys.Close(int(s.fd[other]))
		} else {
			a.sys.Reset(int(s.fd[other]))
		}
	}
}

func (a *Acceptor) hasUnsent(fd int) bool {
	n, errno := a.sys.Unsent(fd)
	return errno != 0 || n > 0 // where it can't be told, nothing is taken back
}

// release gives back all that a session held but its descriptors, which are closed,
// and counts its reason. The slot is free after it.
func (a *Acceptor) release(slot int32, s *session, reason metrics.Reason) {
	a.releaseHeld(&s.half[toBackend])
	a.releaseHeld(&s.half[toClient])
	l := a.listenerOf(s)
	a.drop(l)
	a.unpick(s)
	if s.opening != 0 {
		a.setLacking(s, false)
		a.stopAwaiting(s, metrics.WaitClosed)
		a.leaveQueue(s, metrics.QueueLeft)
		a.openings.giveBack(s)
	}
	if s.route != 0 {
		a.leaveRoute(s)
	}
	if s.halfCounted {
		l.cells.HalfClosed.Add(-1)
	}
	l.cells.Closed[reason].Add(1)
	l.cells.Duration.Observe(time.Duration(a.now - s.opened))
	l.cells.Opened.Add(-s.opened)
	l.cells.Active.Add(-1)
	a.cells.Sessions.Add(-1)
	a.leaveSource(slot, l)
	a.leavePace(slot, s)
	a.wheel.disarm(slot)
	if a.paused {
		// Descriptors came free; but not before the shortest pause is over, or a full
		// service would turn round its limit without rest.
		a.resumeAt = min(a.resumeAt, a.now+int64(minPause))
	}
	s.state = stateFree
	if !s.queued { // else the run list gives the slot back
		a.slab.put(slot)
	}
}
