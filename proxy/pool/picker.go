package pool

import (
	"net/netip"
	"slices"

	"sluice/metrics"
)

// Picker is one acceptor's way through a pool's targets. It is not safe for
// concurrent use, and costs no lock for that. The words of the board that it reads may
// change at any time.
type Picker struct {
	pool   *Prepared
	policy policy
	skip   []int32 // scratch: positions of the tried, in order
}

// policy is a Policy at work.
type policy interface {
	// pick returns a position of a tier, none of skip and none whose weight is 0, or -1.
	pick(tier int, skip []int32, client netip.Addr) int32
	// adopt takes over the turns of the same pool's policy before.
	adopt(old policy)
}

// NewPicker makes a picker. held and weights are the board's, by index of a target: the
// sessions that hold it over all acceptors, and the weight in force, 0 if nobody new may
// come. seed is the acceptor's seat: it shifts the first pick, so that acceptors that start
// together do not all start with the same target.
func NewPicker(p *Prepared, seed int, held, weights []metrics.Gauge) *Picker {
	k := &Picker{pool: p, skip: make([]int32, 0, 16)}
	switch p.Pick {
	case LeastSessions:
		k.policy = newLeastSessions(p, seed, held, weights)
	case SourceHash:
		k.policy = &sourceHash{pool: p, weights: weights}
	default:
		k.policy = newRoundRobin(p, seed, weights)
	}
	return k
}

// Adopt goes on where the picker of an earlier Plan stood: every target that is still there
// keeps its turn. A pool that has another policy now begins anew. It allocates nothing and
// takes a fraction of a millisecond with 10,000 targets.
func (k *Picker) Adopt(old *Picker) {
	if old.pool.Pick == k.pool.Pick {
		k.policy.adopt(old.policy)
	}
}

// Pick returns the index in Pool.Targets of the target for a session's next try, or -1 if
// none may be picked. tried are those that failed this session, at most 11; client is
// looked at by SourceHash only. Backups are picked only when no other target may be.
func (k *Picker) Pick(tried []metrics.ID, client netip.Addr) int {
	ofPrimaries := k.setSkip(tried)
	at := k.policy.pick(primaries, k.skip[:ofPrimaries], client)
	if at < 0 {
		at = k.policy.pick(backups, k.skip[ofPrimaries:], client)
	}
	if at < 0 {
		return -1
	}
	return int(k.pool.places[at])
}

// setSkip notes the positions of the tried, and returns how many of them are primaries.
func (k *Picker) setSkip(tried []metrics.ID) (ofPrimaries int) {
	k.skip = k.skip[:0]
	for _, id := range tried {
		if at, ok := k.pool.at(id); ok { // a Plan may have taken it away meanwhile
			k.skip = append(k.skip, at)
			if k.pool.tierOf(at) == primaries {
				ofPrimaries++
			}
		}
	}
	slices.Sort(k.skip)
	return ofPrimaries
}
