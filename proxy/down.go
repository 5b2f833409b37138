package proxy

import (
	"math"
	"time"

	"sluice/metrics"
)

// downs ends the sessions on targets that are down, in pools that want that. The control
// plane writes which these are (Board.Cuts); a loop that has sessions looks there a few
// times a second, so nobody needs to wake it, and one that comes late finds the same.
type downs struct {
	pools []*pooled // that want it
	due   int64     // clock at which it looks next; MaxInt64 = no pool wants it
	next  int32     // the slot it comes to
	going bool
}

// downRest is the time between two looks.
const downRest = 250 * time.Millisecond

// take goes over to another Plan.
func (d *downs) take(b *Bound) {
	*d = downs{due: math.MaxInt64}
	for _, p := range b.pools {
		if p.CutOnDown {
			d.pools = append(d.pools, p)
			d.due = 0
		}
	}
}

// found says whether this acceptor has sessions on a target that is down.
func (d *downs) found(a *Acceptor) bool {
	cuts := a.Board.Cuts()
	for _, p := range d.pools {
		for i := range p.Targets {
			if id := p.Targets[i].ID; cuts[id.Index()].Load() != 0 && a.Board.Target(a.Seat, id).Active.Load() > 0 {
				return true
			}
		}
	}
	return false
}

// cutDowned visits sessions, some in each turn like the sweep, and ends those that relay
// with a target that is down. Those that still connect end by themselves.
func (a *Acceptor) cutDowned() {
	d := &a.downs
	if !d.going {
		if a.now < d.due {
			return
		}
		if d.next, d.going = 0, d.found(a); !d.going {
			d.due = a.now + int64(downRest)
			return
		}
	}
	down, cuts := a.Board.Cuts(), 0
	for n := 0; n < sweepSlots && cuts < sweepCuts; n++ {
		if d.next >= a.slab.slots() {
			d.going, d.due = false, a.now+int64(downRest)
			return
		}
		slot := d.next
		d.next++
		if s := a.slab.at(slot); s.state == stateRelaying && s.picked && down[s.target].Load() != 0 {
			a.end(slot, s, cutFor(metrics.ReasonBackendDown))
			cuts++
		}
	}
}
