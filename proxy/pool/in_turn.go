package pool

import (
	"net/netip"
	"slices"
)

// inTurn picks one failing target after the other. It is the last resort of policies
// that go by weight or sessions: among targets that do not take connections these say
// nothing, the dead one looks idlest. In turn each is tried soon, and one that has come
// back is found.
type inTurn struct {
	pool  *Prepared
	state State
	begin [2]int32 // by tier: a position of it
}

func newInTurn(p *Prepared, state State) *inTurn {
	return &inTurn{pool: p, state: state, begin: [2]int32{p.tiers[primaries].first, p.tiers[backups].first}}
}

func (n *inTurn) pick(tier int, skip []int32, _ netip.Addr) int32 {
	t := n.pool.tiers[tier]
	at := n.among(n.begin[tier], t.last, skip)
	if at < 0 {
		at = n.among(t.first, n.begin[tier], skip)
	}
	if at >= 0 {
		n.begin[tier] = at + 1
	}
	return at
}

func (n *inTurn) among(from, to int32, skip []int32) int32 {
	for at := from; at < to; at++ {
		cell := n.pool.cells[at]
		if n.state.Failing[cell].Load() != 0 && n.state.Weights[cell].Load() != 0 && !(n.pool.Limited && n.state.full(cell)) && !slices.Contains(skip, at) {
			return at
		}
	}
	return -1
}

// adopt begins anew: which of those that fail comes first is no promise.
func (n *inTurn) adopt(policy) {}
