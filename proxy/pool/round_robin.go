package pool

import (
	"math"
	"net/netip"
)

// roundRobin is nginx's smooth weighted round robin (2012, commit 52327e0627): each
// target gains its weight, the richest is picked and pays the sum. Weights 5, 1, 1
// give a a b a c a a and not a a a a a b c.
//
// What a target has is its turn: while weights stay it lies between minus and plus their
// sum, and all of a tier have 0 together. When the sum becomes another, the turns are
// settled before the next pick: they keep their share of it. Else a target that has just
// paid for a thousand others would, when these leave, wait as long as if they were still
// there.
type roundRobin struct {
	pool   *Prepared
	state  State
	seed   int      // below 64, which is how many seats there are
	turns  []turn   // by position
	totals [2]int64 // by tier: the sum of the weights as the turns were settled last
}

// turn is 16 bytes, four to a cache line: the scan is what a pick costs.
type turn struct {
	has    int64
	weight int32 // as it was seen last; 0 = it takes no part: it gets no new sessions, or it fails
	cell   uint32
}

func newRoundRobin(p *Prepared, seed int, state State) *roundRobin {
	r := &roundRobin{pool: p, state: state, seed: seed % 64, turns: make([]turn, len(p.cells))}
	for i, cell := range p.cells {
		r.turns[i].cell = cell
	}
	for number := range r.pool.tiers {
		r.begin(number)
	}
	return r
}

func (r *roundRobin) tier(number int) []turn {
	t := r.pool.tiers[number]
	return r.turns[t.first:t.last]
}

// begin starts a tier, as many picks later as the seed says.
func (r *roundRobin) begin(tier int) {
	turns := r.tier(tier)
	for i := range turns {
		turns[i].has, turns[i].weight = 0, r.state.part(turns[i].cell)
	}
	r.settle(tier)
	for range r.seed {
		s := scan{times: 1}
		r.gain(tier, nil, &s)
		r.pay(&s)
	}
}

// pick lets the richest pay. Those to skip gain nothing and cost nothing: a target that
// fails gets no turn more for it. A pick that finds other weights takes back what it gave:
// that is of the new sum, and until they are settled the turns are of the old one.
func (r *roundRobin) pick(tier int, skip []int32, _ netip.Addr) int32 {
	s := scan{times: 1, look: true}
	r.gain(tier, skip, &s)
	if s.changed {
		r.gain(tier, skip, &scan{times: -1})
		for _, tried := range skip { // those, too, may have other weights
			r.turns[tried].weight = r.state.part(r.turns[tried].cell)
		}
		if r.totals[tier] == 0 { // none could be picked before, so none had a turn
			r.begin(tier)
		} else {
			r.settle(tier)
		}
		s = scan{times: 1}
		r.gain(tier, skip, &s)
	}
	return r.pay(&s)
}

func (r *roundRobin) pay(s *scan) (at int32) {
	if s.richest >= 0 {
		r.turns[s.richest].has -= s.sum
	}
	return s.richest
}

// gain gives each but those to skip its weight.
func (r *roundRobin) gain(tier int, skip []int32, s *scan) {
	s.richest, s.has = -1, math.MinInt64
	from := r.pool.tiers[tier].first
	for _, tried := range skip {
		r.scan(s, from, tried)
		from = tried + 1
	}
	r.scan(s, from, r.pool.tiers[tier].last)
}

// scan is one way over a tier's turns, and what is known of those passed.
type scan struct {
	times   int64 // 1 gives weights, -1 takes them back
	look    bool  // for weights in force; else they are as seen last, whatever is written meanwhile
	richest int32
	changed bool  // weights are no longer as settled
	has     int64 // of the richest
	sum     int64 // of weights
}

func (r *roundRobin) scan(s *scan, from, to int32) {
	if from >= to {
		return
	}
	state, turns, times, look := r.state, r.turns[from:to], s.times, s.look
	richest, most, sum, changed := -1, s.has, s.sum, s.changed
	limited := r.pool.Limited
	for i := range turns {
		t := &turns[i]
		w := t.weight
		if look {
			w = state.part(t.cell)
		}
		if w != t.weight {
			t.weight, changed = w, true
		}
		if w == 0 || limited && state.full(t.cell) { // one that is full keeps its turn
			continue
		}
		sum += int64(w)
		t.has += times * int64(w)
		if t.has > most {
			richest, most = i, t.has
		}
	}
	s.has, s.sum, s.changed = most, sum, changed
	if richest >= 0 {
		s.richest = from + int32(richest)
	}
}

// settle is called when weights have changed or targets came or left. A target that takes
// no part loses its turn and comes back as new; the others have 0 together again, or less
// than one each more.
func (r *roundRobin) settle(tier int) {
	turns := r.tier(tier)
	was, total, parts := r.totals[tier], int64(0), int64(0)
	for i := range turns {
		if t := &turns[i]; t.weight == 0 {
			t.has = 0
		} else {
			total += int64(t.weight)
			parts++
		}
	}
	r.totals[tier] = total
	if total == 0 {
		return
	}
	sum := int64(0)
	for i := range turns {
		if was > 0 && was != total { // at most 2^30 each: the product fits
			turns[i].has = turns[i].has * total / was
		}
		sum += turns[i].has
	}
	each := sum / parts
	if sum < 0 {
		each = -((-sum + parts - 1) / parts)
	}
	for i := range turns {
		if turns[i].weight != 0 {
			turns[i].has -= each
		}
	}
}

// adopt leaves a tier as it is if nothing of it had a turn before.
func (r *roundRobin) adopt(old policy) {
	before := old.(*roundRobin)
	var kept [2]int
	r.pool.both(before.pool, func(tier int, _, _ int32) {
		if before.totals[tier] > 0 {
			kept[tier]++
		}
	})
	for number, n := range kept {
		if n > 0 {
			r.totals[number] = before.totals[number]
			for i := range r.tier(number) {
				r.tier(number)[i].has = 0
			}
		}
	}
	r.pool.both(before.pool, func(tier int, here, there int32) {
		if kept[tier] > 0 {
			r.turns[here].has, r.turns[here].weight = before.turns[there].has, before.turns[there].weight
		}
	})
	for number, n := range kept {
		if n > 0 && (n < len(r.tier(number)) || n < len(before.tier(number))) {
			r.settle(number)
		}
	}
}
