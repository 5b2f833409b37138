package pool

import "net/netip"

// leastSessions picks the fewest sessions for the weight, over all acceptors: held and
// weights are looked at anew each time, since others write them. That is a scan, of two
// words per target. The search begins after the target picked last, so that ties take turns.
type leastSessions struct {
	pool  *Prepared
	state State
	begin [2]int32 // by tier: a position of it
}

func newLeastSessions(p *Prepared, seed int, state State) *leastSessions {
	l := &leastSessions{pool: p, state: state}
	for i, t := range p.tiers {
		l.begin[i] = t.first + int32(seed)%max(t.last-t.first, 1)
	}
	return l
}

func (l *leastSessions) pick(tier int, skip []int32, _ netip.Addr) int32 {
	t := l.pool.tiers[tier]
	least := candidate{at: -1, held: 1} // with weight 0: more than any has
	least = l.among(least, l.begin[tier], t.last, skip)
	least = l.among(least, t.first, l.begin[tier], skip)
	if least.at >= 0 {
		l.passed(tier, least.at)
	}
	return least.at
}

// passed lets the next search begin after a position.
func (l *leastSessions) passed(tier int, at int32) {
	if at++; at == l.pool.tiers[tier].last {
		at = l.pool.tiers[tier].first
	}
	l.begin[tier] = at
}

type candidate struct {
	at           int32
	held, weight int64
}

// among looks for less in a run of positions, but for those to skip.
func (l *leastSessions) among(least candidate, from, to int32, skip []int32) candidate {
	for _, tried := range skip {
		if tried >= from && tried < to {
			least = l.scan(least, from, tried)
			from = tried + 1
		}
	}
	return l.scan(least, from, to)
}

// scan compares a/wa < b/wb as a*wb < b*wa.
func (l *leastSessions) scan(least candidate, from, to int32) candidate {
	if from >= to {
		return least
	}
	held, weights, failing := l.state.Held, l.state.Weights, l.state.Failing
	at, h, w := -1, least.held, least.weight
	limited := l.pool.Limited
	for i, cell := range l.pool.cells[from:to] {
		own := weights[cell].Load()
		if sessions := held[cell].Load(); sessions*w < h*own && own != 0 && failing[cell].Load() == 0 && !(limited && l.state.full(cell)) {
			at, h, w = i, sessions, own
		}
	}
	if at < 0 {
		return least
	}
	return candidate{at: from + int32(at), held: h, weight: w}
}

// adopt begins after the target that was picked last, if it is still there.
func (l *leastSessions) adopt(old policy) {
	before := old.(*leastSessions)
	for number, t := range before.pool.tiers {
		if t.first == t.last {
			continue
		}
		last := before.begin[number] - 1
		if last < t.first {
			last = t.last - 1
		}
		if at, ok := l.pool.at(before.pool.id(last)); ok && l.pool.tierOf(at) == number {
			l.passed(number, at)
		}
	}
}
