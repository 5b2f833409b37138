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
	state  State
	policy policy  // picks among those that do not fail
	resort policy  // the last one: picks among those that do
	skip   []int32 // scratch: positions of the tried, in order

	families [2]*Picker // for clients of one family; only of a Transparent pool
}

// policy is a Policy at work, or a last resort.
type policy interface {
	// pick returns a position of a tier, none of skip and none whose weight is 0 or that is
	// full, or -1.
	// A Policy returns none that fails, a last resort only such.
	pick(tier int, skip []int32, client netip.Addr) int32
	// adopt takes over the turns of the same pool's policy before.
	adopt(old policy)
}

// NewPicker makes a picker. seed is the acceptor's seat: it shifts the first pick, so that
// acceptors that start together do not all start with the same target.
func NewPicker(p *Prepared, seed int, state State) *Picker {
	k := &Picker{pool: p, state: state, skip: make([]int32, 0, 16), resort: newInTurn(p, state)}
	switch p.Pick {
	case LeastSessions:
		k.policy = newLeastSessions(p, seed, state)
	case SourceHash:
		k.policy = newSourceHash(p, state, false)
		k.resort = newSourceHash(p, state, true) // a client comes back to its target
	case Random2:
		k.policy = &random2{newSampler(p, seed, state)}
	case First:
		k.policy = &first{pool: p, state: state}
	case Fastest:
		k.policy = &fastest{newSampler(p, seed, state)}
	default:
		k.policy = newRoundRobin(p, seed, state)
	}
	for i, f := range p.families {
		if f != nil {
			k.families[i] = NewPicker(f, seed, state)
		}
	}
	return k
}

// Adopt goes on where the picker of an earlier Plan stood: every target that is still there
// keeps its turn. A pool that has another policy now begins anew. It allocates nothing and
// takes a fraction of a millisecond with 10,000 targets.
func (k *Picker) Adopt(old *Picker) {
	if old.pool.Pick == k.pool.Pick {
		k.policy.adopt(old.policy)
		for i, f := range k.families {
			if before := old.families[i]; f != nil && before != nil {
				f.Adopt(before)
			}
		}
	}
}

// Pick returns the index in Pool.Targets of the target for a session's next try, -1 if
// none may be picked, or Full. tried are those that failed this session, at most 11; client is
// looked at by SourceHash and in a Transparent pool only. Backups are picked only when no other target may be or all
// of them fail, and targets that fail only when no other is left.
func (k *Picker) Pick(tried []metrics.ID, client netip.Addr) int {
	k = k.of(client)
	ofPrimaries := k.setSkip(tried)
	for _, p := range [...]policy{k.policy, k.resort} {
		for tier, skip := range [...][]int32{k.skip[:ofPrimaries], k.skip[ofPrimaries:]} {
			if at := p.pick(tier, skip, client); at >= 0 {
				return int(k.pool.places[at])
			}
			if k.pool.Limited && k.anyLimited(tier, skip, p == k.resort) {
				return Full
			}
		}
	}
	return -1
}

// Full is what Pick returns if one of the best ranked would have been picked but for its
// max_sessions: backups, and those that fail, do not stand in for it.
const Full = -2

// anyLimited says whether one of those that a policy found full may have a session. It does
// not look whether they are full: a place may have come free since, and the session is not
// to end for that.
func (k *Picker) anyLimited(tier int, skip []int32, failing bool) bool {
	s, t := &k.state, k.pool.tiers[tier]
	for at := t.first; at < t.last; at++ {
		cell := k.pool.cells[at]
		if s.Limits[cell].Load() != 0 && s.Weights[cell].Load() != 0 && (s.Failing[cell].Load() != 0) == failing && !slices.Contains(skip, at) {
			return true
		}
	}
	return false
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
