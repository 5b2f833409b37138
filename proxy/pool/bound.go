package pool

import "math"

// bound is what one target of a pool may hold: consistent hashing with bounded loads
// (Mirrokni, Thorup and Zadimoghaddam, SODA 2018; HAProxy's hash-balance-factor). With m
// sessions, the new one included, a target with the share w of the weights takes no more
// than ceil(max_load x m x w). A client whose target is full goes on to its next one, and
// there is always one that is not.
//
// It is worked out from what the board says at that moment, so it is exact over all
// acceptors but for picks that happen at the same time. That is a scan of two words per
// target, in the order in which they lie on the board.
type bound struct{ load float64 } // sessions for a weight of 1 on the board; 0 = no bound

// weighed are the targets of a tier whose weight is not 0, as runs of cells, and the sum of
// their weights. It changes with weights only.
type weighed struct {
	runs []run
	sum  int64
}

// run is from the first cell to before the last.
type run struct{ first, last uint32 }

// gather finds them anew. It allocates when there are more runs than ever before.
func (w *weighed) gather(cells []uint32, s *State) {
	w.runs, w.sum = w.runs[:0], 0
	for _, cell := range cells {
		own := s.Weights[cell].Load()
		if own == 0 {
			continue
		}
		w.sum += own
		if n := len(w.runs); n > 0 && w.runs[n-1].last == cell {
			w.runs[n-1].last++
		} else {
			w.runs = append(w.runs, run{cell, cell + 1})
		}
	}
}

// load is the sessions and the weights of all of them that fail, or of all that do not.
func (w *weighed) load(s *State, failing bool) (sessions, weights int64) {
	weights = w.sum
	for _, r := range w.runs {
		held := s.Held[r.first:r.last]
		fails := s.Failing[r.first:r.last][:len(held)]
		for i := range held {
			if (fails[i].Load() != 0) == failing {
				sessions += held[i].Load()
			} else {
				weights -= s.Weights[r.first+uint32(i)].Load()
			}
		}
	}
	return sessions, weights
}

func (h *sourceHash) bound(tier int) bound {
	if h.pool.MaxLoad == 0 {
		return bound{}
	}
	sessions, weights := h.inForce[tier].weighed.load(&h.state, h.resort)
	if weights <= 0 {
		return bound{}
	}
	return bound{h.pool.MaxLoad * float64(sessions+1) / float64(weights)}
}

// admits says whether one session more keeps a target within its bound.
func (b bound) admits(h *sourceHash, at int32) bool {
	if b.load == 0 {
		return true
	}
	cell := h.pool.cells[at]
	return float64(h.state.Held[cell].Load()) < math.Ceil(b.load*float64(h.state.Weights[cell].Load()))
}
