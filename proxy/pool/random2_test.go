package pool

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// Of sessions that stay no target holds more than ln ln n / ln 2 and a small constant above
// its share, however many there are and whichever acceptor picks (four of them here).
func TestRandom2Spread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "targets")
		p := weighted(Random2, equal(n)...)
		b := boardOf(p)
		var acceptors []*Picker
		for seat := range 4 {
			acceptors = append(acceptors, b.picker(p, seat))
		}
		each := rapid.IntRange(1, 40).Draw(t, "sessions each")
		for i := range n * each {
			b.held[acceptors[i%4].Pick(nil, anyone)].Add(1)
		}
		limit := int64(each) + int64(math.Ceil(math.Log(math.Log(float64(max(n, 3))))/math.Ln2)) + 4
		for i := range n {
			if got := b.held[i].Load(); got > limit {
				t.Fatalf("one of %d targets holds %d sessions, the average is %d", n, got, each)
			}
		}
	})
}

// The same by weight: each holds what its weight is of the whole, give or take.
func TestRandom2Weights(t *testing.T) {
	for _, policy := range []Policy{Random2, Fastest} {
		weights := []int{1, 2, 4, 8, 16, 1}
		p := weighted(policy, weights...)
		b := boardOf(p)
		b.weigh(5, 0) // no new sessions
		for i := range weights {
			b.speeds[i].Observe(time.Hour, 1000)
		}
		k := b.picker(p, 1)
		const rounds = 200
		for range 31 * rounds {
			b.held[k.Pick(nil, anyone)].Add(1)
		}
		for i, w := range weights[:5] {
			if got := b.held[i].Load(); math.Abs(float64(got)-float64(rounds*w)) > float64(5*w)+5 {
				t.Errorf("%v: weight %d holds %d of %d sessions, want %d", policy, w, got, 31*rounds, rounds*w)
			}
		}
		if got := b.held[5].Load(); got != 0 {
			t.Errorf("%v: weight 0 holds %d sessions", policy, got)
		}
		// A weight that changes holds from the next pick on. With half of all weight it is one
		// of the two, and has the fewer sessions, three times in four or more.
		b.weigh(5, 32*WeightScale)
		for range 32 * rounds {
			b.held[k.Pick(nil, anyone)].Add(1)
		}
		if got := b.held[5].Load(); got < 24*rounds {
			t.Errorf("%v: the one that came back with half of the weight holds %d of %d new sessions", policy, got, 32*rounds)
		}
	}
}

// first fills one after the other in the order of the configuration, whatever the weights.
func TestFirst(t *testing.T) {
	p := weighted(First, 1, 256, 3)
	p.Targets[0].Backup = true
	b := boardOf(p)
	k := b.picker(p, 5)
	want := func(what string, tried []metrics.ID, want int) {
		t.Helper()
		for range 3 {
			if got := k.Pick(tried, anyone); got != want {
				t.Errorf("%s: picked %d, want %d", what, got, want)
			}
		}
	}
	want("all are well", nil, 1)
	want("the first was tried", []metrics.ID{p.Targets[1].ID}, 2)
	b.fail(p.Targets[1])
	want("the first fails", nil, 2)
	b.weigh(2, 0)
	want("a backup is left", nil, 0)
	b.failing[1].Swap(0)
	want("the first is back", nil, 1)
}
