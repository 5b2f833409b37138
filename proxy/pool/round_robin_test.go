package pool

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/metrics"
)

func TestRoundRobinIsSmooth(t *testing.T) {
	if got := letters(pickerOf(weighted(RoundRobin, 5, 1, 1)), 14); got != "aabacaaaabacaa" {
		t.Errorf("picked %s", got)
	}
}

// Over a round, which has as many picks as the weights' sum, each target gets exactly
// its weight, wherever the round starts; and over any window it gets its share by less
// than two turns.
func TestRoundRobinShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 80).Draw(t, "weights")
		p := weighted(RoundRobin, weights...)
		k := boardOf(p).picker(p, rapid.IntRange(0, 63).Draw(t, "seed"))
		got, sum := make([]int, len(weights)), 0
		for _, w := range weights {
			sum += w
		}
		lead, lag := make([]int, len(weights)), make([]int, len(weights)) // times sum
		for n := 1; n <= 2*sum; n++ {
			got[k.Pick(nil, anyone)]++
			for i, w := range weights {
				off := got[i]*sum - n*w
				lead[i], lag[i] = max(lead[i], off), min(lag[i], off)
			}
		}
		for i, w := range weights {
			if got[i] != 2*w {
				t.Fatalf("target %d of weight %d got %d of %d", i, w, got[i], 2*sum)
			}
			if lead[i]-lag[i] >= 2*sum {
				t.Fatalf("target %d of weight %d was up to %d/%d before its share and %d/%d behind", i, w, lead[i], sum, -lag[i], sum)
			}
		}
	})
}

// Acceptors that start together do not all start with the same target, and neither do they
// when all targets come back at once.
func TestRoundRobinSeed(t *testing.T) {
	p := weighted(RoundRobin, 1, 1, 1, 1)
	for seed := range 4 {
		b := boardOf(p)
		k := b.picker(p, seed)
		if got := k.Pick(nil, anyone); got != seed {
			t.Errorf("acceptor %d starts with target %d", seed, got)
		}
		for i := range p.Targets {
			b.weigh(uint32(i), 0)
		}
		if got := k.Pick(nil, anyone); got != -1 {
			t.Errorf("picked %d of none", got)
		}
		for i := range p.Targets {
			b.weigh(uint32(i), 1)
		}
		if got := k.Pick(nil, anyone); got != seed {
			t.Errorf("acceptor %d starts anew with target %d", seed, got)
		}
		for i := range p.Targets {
			b.weigh(uint32(i), 0)
		}
		k.Pick(nil, anyone)
		for i := range p.Targets {
			b.weigh(uint32(i), 1)
		}
		next := b.picker(p, seed)
		next.Adopt(k) // which has no turns
		if got := next.Pick(nil, anyone); got != seed {
			t.Errorf("acceptor %d starts with target %d in a new Plan", seed, got)
		}
	}
}

// A target that has just paid for 200 others does not wait for them when they
// leave, and none is picked time after time for what it had when they were
// there.
func TestRoundRobinWhenManyLeave(t *testing.T) {
	weights := slices.Repeat([]int{256}, 202) // a round has 51,202 picks
	weights[0], weights[1] = 1, 1
	p := weighted(RoundRobin, weights...)
	for picks := range 20 {
		b := boardOf(p)
		k := b.picker(p, 0)
		for range picks * 2600 {
			k.Pick(nil, anyone)
		}
		for i := range weights[2:] {
			b.weigh(uint32(2+i), 0)
		}
		got := [2]int{}
		for range 100 {
			got[k.Pick(nil, anyone)]++
		}
		if got[0] < 48 || got[0] > 52 {
			t.Errorf("after %d picks the two that are left got %v of 100", picks*2600, got)
		}
	}
}

// The pick that is the first to see other weights pays in their measure, once: two that
// became 16 times as heavy went on a b b b ..., since what a had paid of the new sum was
// taken for a payment of the old one.
func TestRoundRobinWhenWeightsGrow(t *testing.T) {
	p := weighted(RoundRobin, 1, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	b.weights[0].Store(16)
	b.weights[1].Store(16)
	k.Pick(nil, anyone)
	b.weights[0].Store(1)
	if got := letters(k, 4*17); !strings.Contains(got, "a") || !strings.Contains(got, "b") {
		t.Errorf("picked %s in four rounds", got)
	}
}

// Weights that all grow or shrink by the same factor change nothing, at whichever pick,
// also if one of the targets was tried before.
func TestRoundRobinKeepsSharesOfTheSum(t *testing.T) {
	for _, tried := range [][]int{{}, {0}, {1}, {2, 3}} {
		p := weighted(RoundRobin, 5, 1, 2, 1)
		same, other := boardOf(p), boardOf(p)
		k, l := same.picker(p, 0), other.picker(p, 0)
		got, want := "", ""
		for n := range 90 {
			factor := []int64{1, 16, 256, 2, 64, 8, 1, 4}[n/2%8]
			for i, target := range p.Targets {
				other.weights[i].Store(factor * int64(target.Weight))
			}
			var skip []metrics.ID
			for _, i := range tried[:min(len(tried), n%3)] {
				skip = append(skip, p.Targets[i].ID)
			}
			want += string('a' + rune(k.Pick(skip, anyone)))
			got += string('a' + rune(l.Pick(skip, anyone)))
		}
		if got != want {
			t.Errorf("with %v tried before now and then: picked %s, want %s", tried, got, want)
		}
	}
}

// A weight in force holds from the next pick on.
func TestRoundRobinFollowsWeights(t *testing.T) {
	p := weighted(RoundRobin, 1, 1, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	for _, weights := range [][]int{{1, 1, 1}, {1, 3, 1}, {0, 3, 1}, {5, 0, 0}, {2, 0, 2}, {256, 1, 1}, {1, 1, 0}} {
		sum := 0
		for i, w := range weights {
			b.weigh(uint32(i), int64(w))
			sum += w
		}
		got := make([]int, len(weights))
		for range 20 * sum {
			got[k.Pick(nil, anyone)]++
		}
		for i, w := range weights {
			if off := got[i] - 20*w; off < -2 || off > 2 || w == 0 && off != 0 {
				t.Errorf("weights %v got %v in 20 rounds", weights, got)
				break
			}
		}
	}
}
