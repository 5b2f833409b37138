package pool

import (
	"net/netip"
	"slices"
)

// sourceHash picks the first target on the client's way through the table that may be
// picked. Nothing counts but the client, the weights and which targets may be picked,
// so that all acceptors, and all instances with the same weights in force, pick the
// same.
//
// The table has the weights as configured. What is in force may be another weight, see
// inForce; with a bound on load, see bound.
type sourceHash struct {
	pool    *Prepared
	state   State
	resort  bool // it is a last resort
	inForce [2]inForce
}

func newSourceHash(p *Prepared, state State, resort bool) *sourceHash {
	return &sourceHash{pool: p, state: state, resort: resort}
}

// shortWalk is how many places a pick looks at one after the other. Unless fewer than 1 in
// 30 of them have a target that may be picked, that finds one 49 times in 50. With fewer to
// look from the targets' side is soon the faster way: 1 of 1,000 has 65 places. Where
// weights are less than configured a longer walk is worth its while, for a search can't
// honour them.
const (
	shortWalk = 128
	longWalk  = 2048
)

func (h *sourceHash) pick(tier int, skip []int32, client netip.Addr) int32 {
	t := &h.pool.tables[tier]
	if len(t.owners) == 0 {
		return -1
	}
	f := &h.inForce[tier]
	if f.anew.since(&h.state) {
		f.weigh(h.pool, tier, &h.state)
	}
	b := h.bound(tier)
	hash := hashOf(client)
	if at := f.raised(hash); at >= 0 && h.may(at, skip) && b.admits(h, at) {
		return at
	}
	w := newWalk(hash)
	here, steps := w, shortWalk
	if f.lowered {
		steps = longWalk
	}
	for range steps {
		if at := int32(t.owners[here.place]); h.may(at, skip) && f.takes(at, hash, here.place) && b.admits(h, at) {
			return at
		}
		here.next()
	}
	at := h.search(tier, skip, w, b)
	if at < 0 && b.load > 0 { // all but those that this session has tried are at their bound
		at = h.search(tier, skip, w, bound{})
	}
	return at
}

// search looks at all targets instead of all places: of those that may be picked it
// returns the one with the place that the walk comes to first.
func (h *sourceHash) search(tier int, skip []int32, w walk, b bound) int32 {
	t := &h.pool.tables[tier]
	first, found := uint32(tableSize), int32(-1)
	steps := w.steps()
	run := h.pool.tiers[tier]
	for at := run.first; at < run.last; at++ {
		if !h.may(at, skip) || !b.admits(h, at) {
			continue
		}
		for _, place := range t.placesOf(at - run.first) {
			if n := steps.to(place); n < first {
				first, found = n, at
			}
		}
	}
	return found
}

func (h *sourceHash) may(at int32, skip []int32) bool {
	cell := h.pool.cells[at]
	return h.state.Weights[cell].Load() != 0 && (h.state.Failing[cell].Load() != 0) == h.resort && !(h.pool.Limited && h.state.full(cell)) && !slices.Contains(skip, at)
}

// adopt: there are no turns.
func (h *sourceHash) adopt(policy) {}
