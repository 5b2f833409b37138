package health

import (
	"time"

	"sluice/metrics"
)

// A pool is in panic while fewer than panic_below of its primaries are healthy: so many
// cannot all be down, and the few that are left cannot bear what all did. Then all are used:
//
//	its checks say that it is down    it has its weight
//	ejected for early closes          it is picked like others, and none is ejected
//	it takes no connections           it stays last: what it would be given goes elsewhere
//
// The last two count as ill, too. Acceptors find that out and say so on the board, where it
// is looked for twice a second. One that was ejected is well again when a session has proved
// it: letting it back does not end the panic by itself.
const illEvery = 500 * time.Millisecond

// ill says whether sessions have found a target wanting.
func (k *Keeper) ill(t *target) bool {
	if k.o.Failing == nil {
		return false
	}
	at := t.ID.Index()
	return k.o.Failing[at].Load().Failures() > 0 || t.in.panic && k.o.Strikes[at].Load().Ejections > 0
}

// lookForIllFrom has the ill targets looked for, if they can put a pool in panic.
func (k *Keeper) lookForIllFrom(now time.Time) {
	may := false
	for _, w := range k.pools {
		may = may || w.config.PanicBelow > 0 && k.o.Failing != nil
	}
	switch {
	case !may:
		k.illAt = time.Time{}
	case k.illAt.IsZero():
		k.illAt = now.Add(illEvery)
	}
}

// lookForIll counts anew where it can matter, and returns when it does so next; zero = never.
func (k *Keeper) lookForIll(now time.Time) (next time.Time) {
	if k.illAt.IsZero() || k.illAt.After(now) {
		return k.illAt
	}
	k.illAt = now.Add(illEvery)
	for _, w := range k.pools {
		if w.config.PanicBelow == 0 {
			continue
		}
		for _, t := range w.targets {
			k.count(t)
		}
		if k.setPanic(w) {
			for _, t := range w.targets {
				k.settle(t, now)
			}
		}
	}
	return k.illAt
}

// count adds a target to its pool's figures, or takes it out of them, as it is now.
func (k *Keeper) count(t *target) {
	out := stateOf(k.orders[t.key()], true, false, false) != metrics.TargetUp
	primary, healthy := !out && !t.Backup, !out && t.verdict.up && !k.ill(t)
	t.in.primary += one(primary) - one(t.primary)
	t.in.healthy += one(healthy) - one(t.healthy)
	t.primary, t.healthy = primary, healthy
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// changed counts a target anew and settles it, and all of its pool if that begins or ends
// its panic.
func (k *Keeper) changed(t *target, now time.Time) {
	w := t.in
	k.count(t)
	turned := k.setPanic(w) // first: what panic uses is never down, not even for a moment
	k.settle(t, now)
	if turned {
		for _, other := range w.targets {
			k.settle(other, now)
		}
	}
}

// tooFew says whether a pool is to be in panic. Backups stand in for others.
func (w *watched) tooFew() bool {
	return w.primary > 0 && float64(w.healthy) < w.config.PanicBelow*float64(w.primary)
}

// setPanic begins or ends a pool's panic, and logs it.
func (k *Keeper) setPanic(w *watched) (changed bool) {
	few := w.tooFew()
	if few == w.panic {
		return false
	}
	w.panic = few
	k.tellPanic(w)
	if few {
		k.o.Log.Warn("too few backends are healthy: all are used", "pool", w.config.Name, "healthy", w.healthy, "of", w.primary)
	} else {
		k.o.Log.Info("enough backends are healthy again", "pool", w.config.Name, "healthy", w.healthy, "of", w.primary)
	}
	return true
}

// tellPanic tells acceptors, and lets those back that they have ejected.
func (k *Keeper) tellPanic(w *watched) {
	if k.o.Panics == nil {
		return
	}
	k.o.Panics[w.id.Index()].Store(int64(one(w.panic))) // first: from then on none is ejected
	for _, t := range w.targets {
		cell := &k.o.Failing[t.ID.Index()]
		if was := cell.Load(); w.panic && was.Class() == metrics.EarlyClose {
			cell.CompareAndSwap(was, 0)
		}
	}
}
