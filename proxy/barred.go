package proxy

import (
	"slices"
	"time"

	"sluice/metrics"
)

// A session whose source has as many sessions as it may is barred where it may be delayed:
// it waits until one of them ends, whichever acceptor has that.
//
//	judge: too many ──► bar ──► waits ──► called: one has ended ──► judge again ──► dial
//	                     │        │ ▲               │ another was faster
//	                     │        │ └───────────────┘
//	                     │        ├── Guard.Delay is over ──► source_sessions
//	                     │        └── its client leaves, ... ─► as ever
//	                     └─ max_waiting wait already ──► source_sessions
//
// It counts as waiting, and takes no session of its source meanwhile. An acceptor that ends a
// session of a full source calls the first that waits for it at each acceptor, by mail
// without a connection in it. Which of these gets in, and whether a new one is faster than
// all of them, is a matter of chance: first come, first served holds among those of one
// acceptor that are called, and none waits for longer than Delay. Each that waits also looks
// by itself, about six times a second (park): so a letter that is lost, a worker that died
// and a limit that was raised cost a moment.

// barring is a barred session, in the order in which they came; it may have gone.
type barring struct {
	slot int32
	gen  uint32
}

// bars says whether sessions wait for others of their source.
func (g *Guard) bars() bool { return g.Delay > 0 && g.Source.Sessions > 0 }

// mayBeBarred counts a session that judge has turned away as waiting, if that may help it and
// there is room.
func (a *Acceptor) mayBeBarred(l *listener, e entry) bool {
	return e.barred != 0 && l.Guard.bars() && a.takeWaiting(l)
}

// bar lets a session that was counted as waiting wait.
func (a *Acceptor) bar(slot int32, s *session, l *listener, source uint32) outcome {
	o := a.openings.of(s)
	o.awaiting, o.barred, o.barredUntil = true, source, a.tick+ticks(l.Guard.Delay)
	if len(a.barred) == cap(a.barred) {
		a.barred = slices.DeleteFunc(a.barred, func(b barring) bool { return a.openingOfBarred(b) == nil })
	}
	a.barred = append(a.barred, barring{slot, s.gen})
	return a.barAgain(s)
}

// barAgain lets it wait until it looks again.
func (a *Acceptor) barAgain(s *session) outcome {
	out, o := a.park(s), a.openings.of(s)
	o.until = min(o.until, o.barredUntil)
	return out
}

// openingOfBarred is the record of a session that waits for its source; nil = it does so no more.
func (a *Acceptor) openingOfBarred(b barring) *opening {
	s := a.slab.at(b.slot)
	if s.gen != b.gen || s.state != stateWaiting {
		return nil
	}
	if o := a.openings.of(s); o.barred != 0 {
		return o
	}
	return nil
}

// unbar is the next step of a barred session.
func (a *Acceptor) unbar(slot int32, s *session) outcome {
	o, l := a.openings.of(s), a.listenerOf(s)
	o.called = false
	from := a.clientOf(s).Addr()
	if !from.IsValid() && !l.Unix { // it was reset, and epoll is about to say so
		return over(brokenAt(client))
	}
	e, reject, ok := a.judge(l, from, time.Duration(o.barredUntil-min(a.tick, o.barredUntil))*tickLength)
	switch {
	case ok:
		o.barred = 0
		a.stopAwaiting(s, metrics.WaitAdmitted)
		a.holdSource(slot, e.source)
		if e.wait > 0 {
			return a.hold(s, e.wait)
		}
		return a.redial(slot, s)
	case e.barred != 0 && l.Guard.bars() && a.tick < o.barredUntil:
		o.barred = e.barred // it may have another place by now
		return a.barAgain(s)
	}
	return over(cutFor(reasonOf[reject]))
}

// callBarred tells those that wait for a source that it has one session less.
func (a *Acceptor) callBarred(l *listener, source uint32) {
	for _, b := range a.bound.siblings {
		switch {
		case !a.waitsAt(l, b.seat):
		case b.seat == a.Seat:
			a.callOwn(source)
		case b.seat < len(a.bound.mail) && a.bound.mail[b.seat] >= 0:
			a.sys.SendFD(a.bound.mail[b.seat], callMail-uint64(source), -1) // a full mailbox loses it: it looks by itself
		}
	}
}

// waitsAt says whether a seat has sessions of l that wait.
func (a *Acceptor) waitsAt(l *listener, seat int) bool {
	if a.Board.Listener(seat, l.ID).Waiting.Load() > 0 {
		return true
	}
	return slices.ContainsFunc(l.others, func(id metrics.ID) bool { return a.Board.Listener(seat, id).Waiting.Load() > 0 })
}

// callOwn has the first of this acceptor's that wait for a source look again. O(n) in those
// that wait, of which there are max_waiting at most.
func (a *Acceptor) callOwn(source uint32) {
	for _, b := range a.barred {
		if o := a.openingOfBarred(b); o != nil && o.barred == source && !o.called {
			o.called = true
			a.enqueue(b.slot, a.slab.at(b.slot))
			return
		}
	}
}
