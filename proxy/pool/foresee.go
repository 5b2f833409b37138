package pool

import (
	"net/netip"
	"slices"

	"sluice/metrics"
)

// Foresee returns the indexes in Pool.Targets of those that a session of client would be
// given if it came now and each but the last refused it: n at most. full says that
// behind them come only targets that have max_sessions. No target loses its turn by it, so
// what Pick returns next is the first of them.
//
// Random2 and Fastest draw at random: their next draws are not known, and it returns none.
func (k *Picker) Foresee(client netip.Addr, most int) (ways []int, full bool) {
	if k.pool.Pick == Random2 || k.pool.Pick == Fastest {
		return nil, false
	}
	c := k.of(client).aside()
	var tried []metrics.ID
	for len(ways) < most {
		i := c.Pick(tried, client)
		if i < 0 {
			return ways, i == Full
		}
		ways = append(ways, i)
		tried = append(tried, k.pool.Targets[i].ID)
	}
	return ways, false
}

// aside is a picker that stands where k does and takes turns of its own.
func (k *Picker) aside() *Picker {
	c := &Picker{pool: k.pool, state: k.state, skip: make([]int32, 0, 16), policy: k.policy, resort: k.resort}
	switch p := k.policy.(type) {
	case *roundRobin:
		copied := *p
		copied.turns = slices.Clone(p.turns)
		c.policy = &copied
	case *leastSessions:
		copied := *p
		c.policy = &copied
	}
	if p, is := k.resort.(*inTurn); is {
		copied := *p
		c.resort = &copied
	}
	return c
}
