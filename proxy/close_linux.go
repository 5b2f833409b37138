package proxy

import (
	"time"

	"sluice/metrics"
)

// reasonOfClose is what a session ends with when Close does not wait for it.
const reasonOfClose = metrics.ReasonInternal

// finish ends a session whose halves are both done.
func (a *Acceptor) finish(slot int32, s *session) {
	a.sys.close(int(s.fd[client]))
	a.sys.close(int(s.fd[backend]))
	a.release(slot, s, s.firstEOF)
}

// abort ends a session because the connection of one side broke. The other side is
// told the same, by a RST: a FIN would say that all came through.
//
// It is closed quietly instead if it has been sent its FIN and has not acknowledged
// all that was before it: a RST would take those bytes back, and close(2) sends one
// anyway should more come from there.
func (a *Acceptor) abort(slot int32, s *session, from side) {
	reason := metrics.ReasonClientReset
	if from == backend {
		reason = metrics.ReasonBackendReset
	}
	a.sys.close(int(s.fd[from]))
	if other := from ^ 1; s.fd[other] >= 0 {
		if s.half[from].state == halfDone && a.hasUnsent(int(s.fd[other])) {
			a.sys.close(int(s.fd[other]))
		} else {
			a.sys.reset(int(s.fd[other]))
		}
	}
	a.release(slot, s, reason)
}

func (a *Acceptor) hasUnsent(fd int) bool {
	n, errno := a.sys.unsent(fd)
	return errno == 0 && n > 0
}

// cut ends a session in the middle, with a RST to both sides.
func (a *Acceptor) cut(slot int32, s *session, reason metrics.Reason) {
	for _, fd := range s.fd {
		if fd >= 0 {
			a.sys.reset(int(fd))
		}
	}
	a.release(slot, s, reason)
}

// end closes a session that does not move, with a FIN to both sides; with bytes
// still held it is cut.
func (a *Acceptor) end(slot int32, s *session, reason metrics.Reason) {
	if s.half[toBackend].held > 0 || s.half[toClient].held > 0 {
		a.cut(slot, s, reason)
		return
	}
	a.sys.close(int(s.fd[client]))
	a.sys.close(int(s.fd[backend]))
	a.release(slot, s, reason)
}

// release gives back all that a session held but its descriptors, which are closed,
// and counts its reason. The slot is free after it.
func (a *Acceptor) release(slot int32, s *session, reason metrics.Reason) {
	a.releaseHeld(&s.half[toBackend])
	a.releaseHeld(&s.half[toClient])
	a.drop(&a.listeners[s.listener])
	l := a.listeners[s.listener].cells
	if s.picked {
		a.backends[s.backend].cells.Active.Add(-1)
	}
	a.setLacking(s, false)
	a.stopAwaiting(s, metrics.WaitClosed)
	if s.halfCounted {
		l.HalfClosed.Add(-1)
	}
	l.Active.Add(-1)
	a.cells.Sessions.Add(-1)
	l.Closed[reason].Add(1)
	l.Duration.Observe(time.Duration(a.now - s.opened))
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
