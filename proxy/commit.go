package proxy

import "sluice/metrics"

// commit lets the loop go over to b, between two turns. What it takes grows with the
// number of listeners and of changed targets, by some nanoseconds each; what is to be
// done to each running session is left to the sweep.
//
// Invariant: a socket is watched if, and only if, its listener is in a phase that
// accepts and accepting is not paused. The descriptors of listeners that accept no more
// are not touched again after this.
func (a *Acceptor) commit(b *Bound) {
	old := a.bound
	for id, p := range b.pools {
		if before := old.pools[id]; before != nil && before.picker != p.picker {
			p.picker.Adopt(before.picker)
		}
	}
	for _, l := range old.listeners {
		if next := b.find(l.ID); l.phase.accepts() && (next == nil || !next.phase.accepts()) {
			a.acceptRest(l)
		}
	}
	b.keep(old)
	a.bound, a.serving[0].sockets = b, b.own
	clear(a.settling[:cap(a.settling)]) // nothing of old is held any longer
	a.settling = a.settling[:0]
	touched := false
	for _, l := range b.listeners {
		before := old.find(l.ID)
		touched = a.inherit(l, before) || touched
		if before == nil || before.settling { // the acceptor that had the seat before may have left picks in flight
			a.settle(l)
		}
		if l.phase.accepts() && (before == nil || !before.phase.accepts()) {
			a.watchSocket(l, &a.serving[0])
		}
	}
	if old.own.Mail != b.own.Mail {
		a.watchMail(&a.serving[0])
	}
	a.takeOver(a.inherits)
	a.open(!a.paused)
	if touched {
		a.sweep.begin()
	}
	a.cells.Generation.Store(int64(b.plan.Generation))
}

// keep holds on to listeners that the Plan has left out while a session has them, which
// it should not: an acceptor that comes late to a Plan must not fail on it.
func (b *Bound) keep(old *Bound) {
	for i, l := range old.byIndex {
		if l == nil || l.cells.Active.Load() == 0 || i < len(b.byIndex) && b.byIndex[i] != nil {
			continue
		}
		for i >= len(b.byIndex) {
			b.byIndex = append(b.byIndex, nil)
		}
		kept := *l
		kept.phase, kept.Rows = max(kept.phase, PhaseClosed), nil // rows go with the listener
		b.byIndex[i] = &kept
	}
}

// inherit says whether l's sessions must be looked at, because a deadline of
// theirs has changed, or they are to be cut.
func (a *Acceptor) inherit(l, before *listener) (touched bool) {
	if before == nil {
		return false
	}
	changed := l.MaxDuration != before.MaxDuration
	// A sweep that is under way begins anew: sessions that it had not reached are not forgotten.
	l.rejitter = changed || before.rejitter && a.sweep.active()
	l.retune = l.ToBackend != before.ToBackend || before.retune && a.sweep.active()
	l.repace = l.Paces != before.Paces || before.repace && a.sweep.active()
	return changed || l.retune || l.repace || l.phase == PhaseCut && before.phase != PhaseCut || a.sweep.active() ||
		l.FirstByteTimeout != before.FirstByteTimeout || l.IdleTimeout != before.IdleTimeout || l.HalfClosedTimeout != before.HalfClosedTimeout
}

// sweep visits every session once, some in each turn, after a Plan that changes what
// holds for running sessions. It is one pass however many Plans come meanwhile.
type sweep struct {
	next  int32 // the slot it comes to
	going bool
}

// sweepSlots a turn is about 0.1 ms of work where deadlines are armed anew; a cut
// session costs about 10 us, so sweepCuts of them 1 ms.
const (
	sweepSlots = 2048
	sweepCuts  = 100
)

func (w *sweep) begin()       { w.next, w.going = 0, true }
func (w *sweep) active() bool { return w.going }

// sweepSome goes on with the sweep.
func (a *Acceptor) sweepSome() {
	if !a.sweep.going {
		return
	}
	cuts := 0
	for n := 0; n < sweepSlots && cuts < sweepCuts; n++ {
		slot := a.sweep.next
		if slot >= a.slab.slots() {
			a.sweep.going = false
			return
		}
		a.sweep.next++
		s := a.slab.at(slot)
		if s.state == stateFree {
			continue
		}
		l := a.listenerOf(s)
		if l.phase == PhaseCut {
			a.end(slot, s, cutFor(metrics.ReasonDrainDeadline))
			cuts++
			continue
		}
		if l.rejitter {
			s.maxTick = a.maxTickOf(l, s)
		}
		if l.retune {
			s.tuned = false
		}
		if l.repace {
			a.repace(slot, s)
		}
		if s.state == stateRelaying {
			a.armNearest(slot, s)
		}
	}
}
