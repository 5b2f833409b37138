package pool

import "net/netip"

// first picks the first target in the order of the configuration that may be picked: one
// fills up to its max_sessions before the next gets anything, so that those at the end can
// be switched off. HAProxy's balance first (1.5, 2012) does the same. Weights other than 0
// count for nothing.
type first struct {
	pool  *Prepared
	state State
}

func (f *first) pick(tier int, skip []int32, _ netip.Addr) int32 {
	t := f.pool.tiers[tier]
	for at := t.first; at < t.last; at++ {
		if len(skip) > 0 && skip[0] == at { // they are in order
			skip = skip[1:]
			continue
		}
		if cell := f.pool.cells[at]; f.state.part(cell) != 0 && !(f.pool.Limited && f.state.full(cell)) {
			return at
		}
	}
	return -1
}

// adopt: there are no turns.
func (f *first) adopt(policy) {}
