package proxy

import (
	"math"
	"syscall"
	"time"

	"sluice/metrics"
)

// ticks is d in wheel ticks, rounded up: a deadline is never early.
func ticks(d time.Duration) uint32 {
	return uint32(min((d+tickLength-1)/tickLength, math.MaxUint32/2)) + 1
}

// setState moves a session to a state and arms the deadline that holds there.
func (a *Acceptor) setState(slot int32, s *session, st state) {
	s.state = st
	a.armNearest(slot, s)
}

func (a *Acceptor) armNearest(slot int32, s *session) {
	if tick, _ := a.nearest(s); tick != never {
		a.wheel.arm(slot, tick)
	} else {
		a.wheel.disarm(slot)
	}
}

const never = math.MaxUint32

// nearest is the first deadline of a session in its state, and what it ends with.
func (a *Acceptor) nearest(s *session) (tick uint32, reason metrics.Reason) {
	if s.state != stateRelaying {
		return a.openings.of(s).until, metrics.ReasonConnectTimeout
	}
	tick = never
	sooner := func(t uint32, r metrics.Reason) {
		if t < tick {
			tick, reason = t, r
		}
	}
	l := a.listenerOf(s)
	if !s.tuned {
		sooner(a.tuneTick(s), metrics.ReasonInternal) // it ends no session, see expired
	}
	if s.maxTick != 0 {
		sooner(s.maxTick, metrics.ReasonMaxDuration)
	}
	for d := range s.half {
		if w := s.half[d].wake; w != 0 {
			sooner(w, metrics.ReasonInternal) // it ends no session either
		}
	}
	if l.FirstByteTimeout > 0 && !s.half[toBackend].heard && s.half[toBackend].wake == 0 {
		sooner(a.tickAt(s.opened)+ticks(l.FirstByteTimeout), metrics.ReasonFirstByte)
	}
	switch {
	case s.isAsleep(): // and not idle
	case l.HalfClosedTimeout > 0 && s.halfClosed():
		sooner(s.moved+ticks(l.HalfClosedTimeout), metrics.ReasonHalfClosed)
	case l.IdleTimeout > 0:
		sooner(s.moved+ticks(l.IdleTimeout), metrics.ReasonIdleTimeout)
	}
	return tick, reason
}

// expired is called by the wheel when a session's entry comes up.
func (a *Acceptor) expired(slot int32) {
	s := a.slab.at(slot)
	switch s.state {
	case statePreamble:
		if s.queued { // bytes may have come: they count
			a.wheel.arm(slot, a.tick+1)
			return
		}
		a.end(slot, s, cutFor(metrics.ReasonPreambleTimeout))
	case stateDialing:
		if s.ready[backend] != 0 { // answered in this very turn; its step will see it
			a.wheel.arm(slot, a.tick+1)
			return
		}
		if o := a.openings.of(s); !o.suspected && a.tick < a.tickAt(o.dialed)+ticks(a.poolOf(s).ConnectTimeout) {
			a.carryOn(slot, s, a.unanswered(slot, s))
			return
		}
		a.carryOn(slot, s, a.dialFailed(slot, s, classifyConnect(syscall.ETIMEDOUT)))
	case stateUpgrading:
		if s.queued {
			a.wheel.arm(slot, a.tick+1)
			return
		}
		a.end(slot, s, a.withoutTLS(s, metrics.ReasonStartTLSTimeout, "no answer").end)
	case stateWaiting:
		a.carryOn(slot, s, a.unpark(slot, s))
	case stateRelaying:
		if a.wakeDue(slot, s) {
			a.enqueue(slot, s)
		}
		if !s.tuned && a.tick >= a.tuneTick(s) {
			a.sys.Tune(int(s.fd[backend]), a.listenerOf(s).ToBackend)
			s.tuned = true
		}
		tick, reason := a.nearest(s)
		switch {
		case tick > a.tick: // it moved since
			a.armNearest(slot, s)
		case reason == metrics.ReasonMaxDuration:
			a.end(slot, s, cutFor(reason))
		case s.queued: // bytes may have come: they count
			a.wheel.arm(slot, a.tick+1)
		case reason != metrics.ReasonFirstByte && a.drains(s):
			s.moved = a.tick
			a.armNearest(slot, s)
		default:
			a.end(slot, s, timedOut(reason))
		}
	}
}

// tuneAfter is how old a session is before its backend's socket is given a keepalive: that
// is five system calls, and most sessions are over by then. A peer that is gone is not
// found out sooner than in a second anyway.
const tuneAfter = time.Second

func (a *Acceptor) tuneTick(s *session) uint32 { return a.tickAt(s.opened) + ticks(tuneAfter) }

// drains says whether a receiver still takes what it was sent: a reader that is slower than
// its socket's buffer is large may take minutes over the last write. It is not looked at
// before the deadline has come, so all that is known then is how much is left; the session
// gets its time once more, and is idle if that is as much at the end of it. So one whose
// reader has stopped ends after one to two times its limit.
func (a *Acceptor) drains(s *session) bool {
	var left uint32
	for _, fd := range s.fd {
		if n, errno := a.sys.Unsent(int(fd)); errno == 0 {
			left += uint32(n)
		}
	}
	drains := left != 0 && left != s.unsent
	s.unsent = left
	return drains
}

// maxTickOf is when a session of l has had its max_duration; 0 = never.
func (a *Acceptor) maxTickOf(l *listener, s *session) uint32 {
	if l.MaxDuration <= 0 {
		return 0
	}
	d := l.MaxDuration - time.Duration(a.random.Float64()*l.MaxDurationJitter*float64(l.MaxDuration))
	return a.tickAt(s.opened) + ticks(d)
}
