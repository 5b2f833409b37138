package pool

import "math"

// bound is what one target of a pool may hold: consistent hashing with bounded loads
// (Mirrokni, Thorup and Zadimoghaddam, SODA 2018; HAProxy's hash-balance-factor). With m
// sessions, the new one included, a target with the share w of the weights takes no more
// than ceil(max_load x m x w). A client whose target is full goes on to its next one, and
// there is always one that is not.
//
// It is worked out from what the board says at that moment, so it is exact over all
// acceptors but for picks that happen at the same time. That is a scan of three words per target.
type bound struct{ load float64 } // sessions for a weight of 1 on the board; 0 = no bound

func (h *sourceHash) bound(tier int) bound {
	if h.pool.MaxLoad == 0 {
		return bound{}
	}
	run := h.pool.tiers[tier]
	sessions, weights := int64(1), int64(0)
	for _, cell := range h.pool.cells[run.first:run.last] {
		if w := h.state.Weights[cell].Load(); w != 0 && (h.state.Failing[cell].Load() != 0) == h.resort {
			sessions += h.state.Held[cell].Load()
			weights += w
		}
	}
	if weights == 0 {
		return bound{}
	}
	return bound{h.pool.MaxLoad * float64(sessions) / float64(weights)}
}

// admits says whether one session more keeps a target within its bound.
func (b bound) admits(h *sourceHash, at int32) bool {
	if b.load == 0 {
		return true
	}
	cell := h.pool.cells[at]
	return float64(h.state.Held[cell].Load()) < math.Ceil(b.load*float64(h.state.Weights[cell].Load()))
}
