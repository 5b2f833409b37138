package config

// Rebalance says how sessions are moved to backends that have fewer.
type Rebalance struct {
	PerSecond int     // sessions that end; 0 = none do by themselves
	Share     float64 // 0..1: of the pool's sessions, at most at a time
	Jitter    float64 // 0..1: each step has up to this share more or fewer
}

// MaxRebalance is the most sessions a second that may be moved: more than that means all at
// once, and is done within seconds.
const MaxRebalance = 100_000

func defaultRebalance() Rebalance {
	return Rebalance{
		PerSecond: 0,   // off: to end sessions that work is for users who know that their clients come again
		Share:     0.2, // a slip then costs a fifth of the clients a connect
		Jitter:    0.2,
	}
}

// checkRebalance reports a pool whose clients would come back to where they were.
func (b *builder) checkRebalance(p Pool) {
	if p.Rebalance.PerSecond > 0 && p.Pick == PickSourceHash {
		b.fault(b.origin[pathOf("pool", p.Name)+".rebalance.per_second"], `means nothing to pick = %q: a client that connects anew comes to the same backend`, p.Pick)
	}
}
