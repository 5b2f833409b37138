package pool

import "net/netip"

// random2 draws two targets, each with the share of its weight, and picks the one with
// fewer sessions for its weight: the power of two choices (Azar, Broder, Karlin and Upfal,
// "Balanced Allocations", SIAM J. Comput. 29(1), 1999; Mitzenmacher, "The Power of Two
// Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001).
//
// Of n equal targets none is then more than ln ln n / ln 2 and a small constant above the
// average, however many sessions there are (Berenbrink et al., "Balanced Allocations: The
// Heavily Loaded Case", STOC 2000), and a pick costs the same with 10 targets or 10,000.
// Many acceptors, or many sluices that do not know of each other, do not all go for the one
// that looks idlest, as those do that pick the least.
type random2 struct{ sampler }

func (r *random2) pick(tier int, skip []int32, _ netip.Addr) int32 {
	first, second := r.two(tier, skip)
	switch {
	case first < 0:
		return r.best(tier, skip, r.state.less)
	case second >= 0 && r.state.less(r.pool.cells[second], r.pool.cells[first]):
		return second
	}
	return first
}

// adopt: there are no turns.
func (r *random2) adopt(policy) {}
