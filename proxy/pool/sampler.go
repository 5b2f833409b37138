package pool

import (
	"math/rand/v2"
	"slices"
)

// sampler draws targets at random, each with the share of its weight in force: a binary
// search in the sums of weights, which are added up anew when one has changed.
type sampler struct {
	pool   *Prepared
	state  State
	random *rand.Rand
	sums   []int64    // by position: of the weights of its tier up to it
	anew   [2]changed // by tier
}

// mayDraws is how often a draw is repeated that gave one that may not be picked. With half
// of the targets failing that is in vain once in 65,000 times.
const mayDraws = 16

func newSampler(p *Prepared, seed int, state State) sampler {
	return sampler{pool: p, state: state, random: rand.New(rand.NewPCG(uint64(seed), rand.Uint64())), sums: make([]int64, len(p.cells))}
}

// draw returns a position, whether or not it may be picked, or -1 where all weights are 0.
func (s *sampler) draw(tier int) int32 {
	t := s.pool.tiers[tier]
	if t.first == t.last {
		return -1
	}
	if s.anew[tier].since(&s.state) {
		sum := int64(0)
		for at := t.first; at < t.last; at++ {
			sum += max(s.state.Weights[s.pool.cells[at]].Load(), 0)
			s.sums[at] = sum
		}
	}
	total := s.sums[t.last-1]
	if total == 0 {
		return -1
	}
	i, _ := slices.BinarySearch(s.sums[t.first:t.last], s.random.Int64N(total)+1)
	return t.first + int32(i)
}

// two draws two different targets that may be picked; with less luck, or targets, the
// second is -1 or both are.
func (s *sampler) two(tier int, skip []int32) (first, second int32) {
	first = -1
	for range mayDraws {
		at := s.draw(tier)
		switch {
		case at < 0:
			return -1, -1
		case at == first || !s.may(at, skip):
		case first < 0:
			first = at
		default:
			return first, at
		}
	}
	return first, -1
}

func (s *sampler) may(at int32, skip []int32) bool {
	cell := s.pool.cells[at]
	return s.state.part(cell) != 0 && !(s.pool.Limited && s.state.full(cell)) && !slices.Contains(skip, at)
}

// best looks at all targets of a tier where draws were in vain.
func (s *sampler) best(tier int, skip []int32, better func(one, other uint32) bool) int32 {
	t, best := s.pool.tiers[tier], int32(-1)
	for at := t.first; at < t.last; at++ {
		if s.may(at, skip) && (best < 0 || better(s.pool.cells[at], s.pool.cells[best])) {
			best = at
		}
	}
	return best
}
