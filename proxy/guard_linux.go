package proxy

import (
	"net/netip"
	"time"

	"sluice/metrics"
	"sluice/proxy/access"
)

// Guard is how a listener treats connections before they become sessions. The zero Guard
// lets all in, and costs nothing.
type Guard struct {
	Access uint64        // number of the access set, which a View has; 0 = everybody may connect
	Rate   access.Rate   // of new sessions, over all acceptors
	Source access.Limit  // of each source, over all acceptors
	Delay  time.Duration // a session that comes too quickly, or whose source has too many, waits at most so long; 0 = it is turned away
	Refuse Refuse
}

// Refuse is how a connection is turned away.
type Refuse uint8

// The ways to turn a connection away.
const (
	RefuseRST    Refuse = iota // it is reset
	RefuseFIN                  // it is closed without a byte
	RefuseSilent               // the client is told nothing, as far as the kernel allows
)

// guarding is what an acceptor has for it.
type guarding struct {
	sources  access.Sources
	sourceOf []uint32 // by slot: what access.Sources.Leave takes; as long as the last slot that had one
	barred   []barring
}

// entry is what a connection that may enter holds until its session begins.
type entry struct {
	source uint32
	wait   time.Duration // before it is dialed
	barred uint32        // its source, which has too many sessions: it waits, see barred.go; 0 = it need not
	gone   bool          // its client has reset it already, and so has no address to be judged by
}

// guarded says whether there is anything to ask before a session begins.
func (l *listener) guarded() bool {
	return l.admitted != nil || l.Guard.Source.On() || l.Guard.Rate.Every > 0
}

// enter judges a connection by its client's address, before it takes a place. One that
// may not enter is counted and turned away: fd is closed then.
func (a *Acceptor) enter(l *listener, fd int) (e entry, ok bool) {
	from := a.sys.PeerAddr(fd).Addr()
	if !from.IsValid() && !l.Unix {
		return entry{gone: true}, true
	}
	e, reject, ok := a.judge(l, from, l.Guard.Delay)
	if ok || a.mayBeBarred(l, e) {
		return e, true
	}
	l.cells.Rejected[reject].Add(1)
	a.noteReject(l, fd, reject)
	a.drop(l)
	a.turnAway(l, fd)
	return e, false
}

// enterLearnt is enter for a session whose client a PROXY header may have named.
func (a *Acceptor) enterLearnt(slot int32, s *session, l *listener) outcome {
	from := a.clientOf(s).Addr()
	if !from.IsValid() && !l.Unix {
		return over(brokenAt(client))
	}
	e, reject, ok := a.judge(l, from, l.Guard.Delay)
	switch {
	case !ok && a.mayBeBarred(l, e):
		return a.bar(slot, s, l, e.barred)
	case !ok:
		return over(cutFor(reasonOf[reject]))
	}
	a.holdSource(slot, e.source)
	if e.wait > 0 {
		return a.hold(s, e.wait)
	}
	return a.dial(slot, s)
}

// reasonOf is how a session that began before it could be judged ends.
var reasonOf = [metrics.NumRejects]metrics.Reason{
	metrics.RejectDenied:         metrics.ReasonDenied,
	metrics.RejectSourceSessions: metrics.ReasonSourceSessions,
	metrics.RejectSourceRate:     metrics.ReasonSourceRate,
	metrics.RejectRate:           metrics.ReasonRate,
}

// judge says why a client may not enter; it may be delayed for as long as patience. What
// it takes is given back then.
func (a *Acceptor) judge(l *listener, client netip.Addr, patience time.Duration) (e entry, reject metrics.Reject, ok bool) {
	g := &l.Guard
	if l.admitted != nil && !l.admitted.Admits(client) {
		return e, metrics.RejectDenied, false
	}
	if g.Source.On() {
		var v access.Verdict
		switch e.source, e.wait, v = a.sources.Enter(l.first, client, &g.Source, a.now, patience); v {
		case access.TooMany:
			return entry{barred: e.source}, metrics.RejectSourceSessions, false
		case access.TooQuickly:
			return entry{}, metrics.RejectSourceRate, false
		}
	}
	wait, in := access.Spend(&a.Board.Rates()[l.first.Index()], g.Rate, a.now, patience)
	if !in {
		a.sources.Undo(e.source, &g.Source)
		return entry{}, metrics.RejectRate, false
	}
	e.wait = max(e.wait, wait)
	return e, 0, true
}

// holdSource has a session give its source back when it ends.
func (a *Acceptor) holdSource(slot int32, source uint32) {
	if source == 0 {
		return
	}
	for int(slot) >= len(a.sourceOf) {
		a.sourceOf = append(a.sourceOf, 0)
	}
	a.sources.Leave(a.sourceOf[slot]) // 0, unless a reload has it judged a second time, by its PROXY header
	a.sourceOf[slot] = source
}

// leaveSource does that, and calls the sessions that wait for it.
func (a *Acceptor) leaveSource(slot int32, l *listener) {
	if int(slot) >= len(a.sourceOf) || a.sourceOf[slot] == 0 {
		return
	}
	source := a.sourceOf[slot]
	a.sourceOf[slot] = 0
	left := a.sources.Leave(source)
	if l.Guard.bars() && left+1 >= l.Guard.Source.Sessions {
		a.callBarred(l, source)
	}
}

// hold lets a session wait before it is dialed for the first time.
func (a *Acceptor) hold(s *session, wait time.Duration) outcome {
	a.openings.of(s).until = a.tick + ticks(wait)
	return outcome{state: stateWaiting}
}

// turnAway closes a connection as the listener says.
func (a *Acceptor) turnAway(l *listener, fd int) {
	switch l.Guard.Refuse {
	case RefuseFIN:
		// What is unread would make close(2) send a RST.
		for range 4 { // 256 KiB: more is not on its way before the client has heard of us
			if n, errno := a.sys.Read(fd, a.buffer); errno != 0 || n <= 0 {
				break
			}
		}
		a.sys.Close(fd)
	case RefuseSilent:
		a.sys.Vanish(fd)
	default:
		a.sys.Reset(fd)
	}
}
