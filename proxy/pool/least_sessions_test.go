package pool

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// The pick is a minimum of sessions by weight, of those that were not tried.
func TestLeastSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 20).Draw(t, "weights")
		p := weighted(LeastSessions, weights...)
		b := boardOf(p)
		k := b.picker(p, rapid.IntRange(0, 63).Draw(t, "seed"))
		for range 5 {
			var tried []metrics.ID
			for i := range weights {
				b.held[i].Store(rapid.Int64Range(0, 1<<31).Draw(t, "sessions"))
				if len(tried) < min(11, len(weights)-1) && rapid.Bool().Draw(t, "tried") {
					tried = append(tried, p.Targets[i].ID)
				}
			}
			i := k.Pick(tried, anyone)
			for j := range weights {
				if slices.Contains(tried, p.Targets[j].ID) {
					continue
				}
				if mine, theirs := b.held[i].Load(), b.held[j].Load(); theirs*int64(weights[i]) < mine*int64(weights[j]) {
					t.Fatalf("picked %d with %d/%d, but %d has %d/%d", i, mine, weights[i], j, theirs, weights[j])
				}
			}
		}
	})
}

// Ties take turns, among all and among some.
func TestLeastSessionsTies(t *testing.T) {
	p := weighted(LeastSessions, equal(7)...)
	b := boardOf(p)
	k := b.picker(p, 0)
	if got := letters(k, 14); got != "abcdefgabcdefg" {
		t.Errorf("ties of all were broken %s", got)
	}
	for _, i := range []int{0, 1, 4, 6} {
		b.held[i].Store(1)
	}
	if got := letters(k, 6); got != "cdfcdf" {
		t.Errorf("ties of c, d and f were broken %s", got)
	}
}

// Sessions that stay end up in the weights' proportion.
func TestLeastSessionsFills(t *testing.T) {
	p := weighted(LeastSessions, 4, 2, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	for range 700 {
		b.held[k.Pick(nil, anyone)].Add(1)
	}
	if a, c := b.held[0].Load(), b.held[2].Load(); a != 400 || b.held[1].Load() != 200 || c != 100 {
		t.Errorf("700 sessions on weights 4, 2, 1: %d, %d, %d", a, b.held[1].Load(), c)
	}
}

// Equal targets that several acceptors pick, and that lose sessions only by even ends, are
// never more than one session apart.
func TestLeastSessionsSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "targets")
		p := weighted(LeastSessions, equal(n)...)
		b := boardOf(p)
		var acceptors []*Picker
		for seat := range rapid.IntRange(1, 16).Draw(t, "acceptors") {
			acceptors = append(acceptors, b.picker(p, seat))
		}
		for range rapid.IntRange(1, 200).Draw(t, "sessions") {
			b.held[rapid.SampledFrom(acceptors).Draw(t, "whose turn").Pick(nil, anyone)].Add(1)
			least, most := b.held[0].Load(), b.held[0].Load()
			for i := range n {
				least, most = min(least, b.held[i].Load()), max(most, b.held[i].Load())
			}
			if most-least > 1 {
				t.Fatalf("from %d to %d sessions", least, most)
			}
		}
	})
}
