package proxy

import (
	"time"

	"sluice/metrics"
)

// A session that cannot be dialed waits: for a descriptor or a source port, which are
// sluice's own lack, for a backend that takes it, for a place at one (queue.go), or for
// another one of its source to end (barred.go).
//
//	lacks         until                                            bounded in number by
//	descriptor    it gets one                                      nothing new is accepted meanwhile
//	source port   connect_timeout is over, counted from accept     -
//	backend       wait_for_backend is over, counted from accept    max_waiting
//	place         queue_timeout is over, counted from joining      queue
//	its source    Guard.Delay is over                              max_waiting
//
// It holds its client and no backend, and is dialed anew every now and then, with all
// backends and retries before it. A try under way at the end of its time may still
// succeed. A client that has sent its FIN waits on if it sent something before: it may
// want an answer to that. One that sent nothing has left, as far as can be told.
const (
	// parkFor is how long it waits before it is dialed again, and parkJitter how many
	// ticks more it may be, so that those that wait do not go in step. On average that
	// is six times a second: 100 that wait make 600 refused connects a second,
	// measured on loopback at 3% of a CPU.
	parkFor    = 100 * time.Millisecond
	parkJitter = 2
)

// noneLeft is the outcome for a session that no backend took: it waits for one, if it
// may, or is over.
func (a *Acceptor) noneLeft(s *session, p *pooled) outcome {
	o := a.openings.of(s)
	switch {
	case a.mayWait(s, p):
		return a.park(s)
	case !o.failed:
		p.cells.NoBackend.Add(1)
		return over(cutFor(metrics.ReasonNoBackend))
	case o.lastError == metrics.ConnectTimeout:
		return over(cutFor(metrics.ReasonConnectTimeout))
	}
	return over(cutFor(metrics.ReasonConnectFailed))
}

func (a *Acceptor) mayWait(s *session, p *pooled) bool {
	age := time.Duration(a.now - s.opened)
	if o := a.openings.of(s); o.failed && o.lastError == metrics.ConnectNoPorts && age < p.ConnectTimeout {
		return true
	}
	return age < a.listenerOf(s).WaitForBackend && a.awaitBackend(s)
}

// awaitBackend counts s among those that wait for a backend, unless there are
// max_waiting over all acceptors. Like takePlace it adds first and looks at the sum
// after, so two that want the last place at the same time may both be refused it.
func (a *Acceptor) awaitBackend(s *session) bool {
	o := a.openings.of(s)
	o.awaiting = o.awaiting || a.takeWaiting(a.listenerOf(s))
	return o.awaiting
}

// takeWaiting counts one more among the sessions of l that wait, unless there are enough.
func (a *Acceptor) takeWaiting(l *listener) bool {
	l.cells.Waiting.Add(1)
	if a.sumOver(l, func(c *metrics.ListenerCells) *metrics.Gauge { return &c.Waiting }) <= int64(l.MaxWaiting) {
		return true
	}
	l.cells.Waiting.Add(-1)
	return false
}

// stopAwaiting counts s out again, if it was counted.
func (a *Acceptor) stopAwaiting(s *session, end metrics.WaitEnd) {
	if o := a.openings.of(s); o.awaiting {
		o.awaiting = false
		l := a.listenerOf(s).cells
		l.Waiting.Add(-1)
		l.Waited[end].Add(1)
	}
}

// setLacking notes whether s waits for a descriptor. While one does, nothing new is accepted.
func (a *Acceptor) setLacking(s *session, is bool) {
	if o := a.openings.of(s); o.lacking != is {
		o.lacking = is
		if is {
			a.lacking++
		} else {
			a.lacking--
		}
	}
}

// left says whether the client of a session that waits is gone, and how the session ends
// then: it must not take the place of one that still wants something. HAProxy gives up a
// connect whose client has sent nothing in the same way.
func (a *Acceptor) left(s *session) (ending, bool) {
	switch {
	case a.isLost(s):
		return brokenAt(client), true
	case s.ready[client]&eof == 0:
		return ending{}, false
	}
	unread, errno := a.sys.Unread(int(s.fd[client]))
	return cutFor(metrics.ReasonClientEOF), errno == 0 && unread <= int(a.openings.of(s).header)
}

// isLost says that nothing comes from the client any more, and nothing reaches it. A unix
// socket that was closed says HUP, though what it sent before still lies here: that is as
// good as a FIN.
func (a *Acceptor) isLost(s *session) bool {
	r := s.ready[client]
	return r&broken != 0 || r&hup != 0 && !a.listenerOf(s).Unix
}

// park lets a session wait for its next try.
func (a *Acceptor) park(s *session) outcome {
	a.openings.of(s).until = a.tick + ticks(parkFor) + a.random.Uint32N(parkJitter+1)
	return outcome{state: stateWaiting}
}

// unpark dials again, begins a session that a rate held back, or looks whether it is its turn
// or its source has room.
func (a *Acceptor) unpark(slot int32, s *session) outcome {
	switch o := a.openings.of(s); {
	case o.place.line != nil:
		return a.inQueue(slot, s)
	case o.barred != 0:
		return a.unbar(slot, s)
	}
	return a.redial(slot, s)
}

func (a *Acceptor) redial(slot int32, s *session) outcome {
	o := a.openings.of(s)
	if !o.asked {
		return a.ask(slot, s)
	}
	o.tries, o.charged, o.spared, o.failed = 0, 0, 0, false
	return a.dial(slot, s)
}
