package health

import (
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// verdict is what the checks of a target say, all together.
type verdict struct {
	up       bool
	proven   bool // a check has succeeded, or it was taken out
	streak   int  // checks in a row that said otherwise
	since    time.Time
	failures [metrics.NumCheckFailures]uint64
}

// add takes the result of one more check. Until a target is proven the first success is
// enough: it was down by configuration only.
func (v *verdict) add(ok bool, rise, fall int, now time.Time) (changed bool) {
	if ok == v.up {
		v.streak = 0
		v.proven = v.proven || ok
		return false
	}
	v.streak++
	need := fall
	if ok {
		need = rise
		if !v.proven {
			need = 1
		}
	}
	if v.streak < need {
		return false
	}
	v.up, v.proven, v.streak, v.since = ok, true, 0, now
	return true
}

// inDoubt says that the last check said otherwise than those before.
func (v *verdict) inDoubt() bool { return v.streak > 0 }

// stateOf is the truth table:
//
//	operator wants    checks say   pool in panic   state      weight
//	disable           -            -               disabled   0
//	drain, weight 0   -            -               draining   0
//	-                 down         no              down       0
//	-                 down         yes             panic      whole
//	-                 up           no              warming    grows, for slow_start
//	-                 up           no              up         whole
//	-                 up           yes             up         whole
//
// Whole is what an operator wants (weight N), or else what is configured.
func stateOf(order metrics.Operator, up, panic, warming bool) metrics.TargetState {
	switch {
	case order.Want == Disable:
		return metrics.TargetDisabled
	case order.Want == Drain, order.Want == Weight && *order.Weight == 0:
		return metrics.TargetDraining
	case !up && panic:
		return metrics.TargetPanic
	case !up:
		return metrics.TargetDown
	case warming && !panic:
		return metrics.TargetWarming
	}
	return metrics.TargetUp
}

// takesNew says whether a state lets new sessions come.
func takesNew(s metrics.TargetState) bool {
	return s == metrics.TargetUp || s == metrics.TargetWarming || s == metrics.TargetPanic
}

// settle brings a target's state and weight in line with everything that decides on them.
// Its pool has counted it.
func (k *Keeper) settle(t *target, now time.Time) {
	order, w := k.orders[t.key()], t.in
	whole := int64(t.Weight) * pool.WeightScale
	if order.Want == Weight {
		whole = int64(*order.Weight) * pool.WeightScale
	}
	state := stateOf(order, t.verdict.up, w.panic, false)
	if took := takesNew(t.state); state == metrics.TargetUp && t.state != "" && (!took || t.state == metrics.TargetPanic) {
		t.warm = now // it comes back
	}
	warmth := 1.0
	if slow := w.config.SlowStart; state != metrics.TargetUp || t.warm.IsZero() || now.Sub(t.warm) >= slow {
		t.warm = time.Time{}
	} else {
		warmth = float64(now.Sub(t.warm)) / float64(slow)
		state = stateOf(order, t.verdict.up, w.panic, true)
	}
	if state != t.state {
		t.state, t.since = state, now
	}
	if state == metrics.TargetWarming {
		k.warming[t] = true
		if at := now.Add(warmStep(w.config.SlowStart)); k.warmAt.IsZero() || at.Before(k.warmAt) {
			k.warmAt = at
		}
	} else {
		delete(k.warming, t)
	}
	switch {
	case !takesNew(state):
		t.weight = 0
	case state == metrics.TargetWarming:
		t.weight = max(1, int64(float64(whole)*warmth))
	default:
		t.weight = whole
	}
	if was := k.o.Weights[t.ID.Index()].Swap(t.weight); was != t.weight && k.o.Weighed != nil {
		k.o.Weighed.Add(1) // after it, see metrics.Board
	}
	if w.cuts(t) && k.o.Cut != nil {
		k.o.Cut(w.config.Name)
	}
}

// cuts says whether the sessions on a target are to end: its checks say that it is down, and
// the pool does not let them stay.
func (w *watched) cuts(t *target) bool {
	return t.state == metrics.TargetDown && w.config.OnDown == config.OnDownCut
}

// warmStep is how often weights of slow start grow: a 64th of the time, as fine as they
// are with a weight of 1, and not more often than 20 times a second.
func warmStep(slow time.Duration) time.Duration { return max(slow/64, 50*time.Millisecond) }

// warm lets weights grow that are to, and returns when they do so next; zero = none grows.
func (k *Keeper) warm(now time.Time) (next time.Time) {
	if k.warmAt.After(now) {
		return k.warmAt
	}
	k.warmAt = time.Time{}
	for t := range k.warming {
		k.settle(t, now)
	}
	return k.warmAt
}
