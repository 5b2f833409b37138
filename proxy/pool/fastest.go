package pool

import (
	"net/netip"
	"time"

	"sluice/metrics"
)

// fastest draws two targets, each with the share of its weight, and picks the one that
// costs less: the time that a connection to it takes, as a peak EWMA over all acceptors
// (metrics.Speed), times its sessions and this one. Finagle does the same, and linkerd
// after it ("Peak EWMA", Twitter, 2015). Of those that are equally near each gets its
// share, and one that slows down loses it with the first connection that is slow.
type fastest struct{ sampler }

func (f *fastest) pick(tier int, skip []int32, _ netip.Addr) int32 {
	first, second := f.two(tier, skip)
	switch {
	case first < 0:
		return f.best(tier, skip, f.faster)
	case second >= 0 && f.faster(f.pool.cells[second], f.pool.cells[first]):
		return second
	}
	return first
}

func (f *fastest) faster(one, other uint32) bool {
	return f.state.slowness(one) < f.state.slowness(other)
}

// adopt: what is known lies on the board.
func (f *fastest) adopt(policy) {}

// Took notes how long a connection to a target took, if p picks by it.
func (p *Pool) Took(b *metrics.Board, id metrics.ID, now, took time.Duration) {
	if p.Pick == Fastest {
		b.Speeds()[id.Index()].Observe(now, took)
	}
}
