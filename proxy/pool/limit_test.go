package pool

import (
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// limit gives a target max_sessions.
func (b *board) limit(p *Pool, i, sessions int) {
	p.Targets[i].MaxSessions = sessions
	b.limits[p.Targets[i].ID.Index()].Store(int64(metrics.NewLimit(sessions, p.ID)))
}

// With limits, for all policies: a full target is never picked. Full is returned exactly
// when one of the best rank would have been; so none of a lower rank stands in for it.
func TestFullIsNotPicked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "targets")
		p := weighted(rapid.SampledFrom(policies).Draw(t, "policy"), equal(n)...)
		b := boardOf(p)
		b.limit(p, 0, 3)
		for i := range p.Targets {
			p.Targets[i].Backup = rapid.Bool().Draw(t, "backup")
			b.limit(p, i, rapid.IntRange(1, 4).Draw(t, "max_sessions"))
		}
		k := b.picker(p, 1)
		for range 10 {
			var tried []metrics.ID
			for i, target := range p.Targets {
				b.held[i].Store(rapid.Int64Range(0, 5).Draw(t, "sessions"))
				b.weigh(uint32(i), rapid.SampledFrom([]int64{0, 64, 64}).Draw(t, "weight"))
				b.failing[i].Swap(0)
				if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
					b.fail(target)
				}
				if rapid.IntRange(0, 3).Draw(t, "tried") == 0 {
					tried = append(tried, target.ID)
				}
			}
			full := func(i int) bool { return b.held[i].Load() >= int64(p.Targets[i].MaxSessions) }
			rank := func(i int) (rank int) {
				if p.Targets[i].Backup {
					rank++
				}
				if b.failing[i].Load() != 0 {
					rank += 2
				}
				return rank
			}
			best, room := 4, false // the best rank of those that may be picked, and whether one of it has room
			for i := range p.Targets {
				if b.weights[i].Load() == 0 || slices.Contains(tried, p.Targets[i].ID) || rank(i) > best {
					continue
				}
				room = rank(i) == best && room || !full(i)
				best = rank(i)
			}
			switch got := k.Pick(tried, anyone); {
			case best == 4:
				if got != -1 {
					t.Fatalf("picked %d, want none", got)
				}
			case !room:
				if got != Full {
					t.Fatalf("picked %d, want Full", got)
				}
			case got < 0 || full(got) || rank(got) != best:
				t.Fatalf("picked %d, want one of rank %d that is not full", got, best)
			}
		}
	})
}

// first fills one up after the other.
func TestFirstFillsUp(t *testing.T) {
	p := weighted(First, 1, 1, 1)
	b := boardOf(p)
	for i := range p.Targets {
		b.limit(p, i, i+1)
	}
	k := b.picker(p, 0)
	var got []int
	for range 7 {
		i := k.Pick(nil, anyone)
		if got = append(got, i); i >= 0 {
			b.held[i].Add(1)
		}
	}
	if want := []int{0, 1, 1, 2, 2, 2, Full}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
}

// A target of round_robin that was full has its turn when it has room again, and not a
// heap of turns.
func TestRoundRobinOfFull(t *testing.T) {
	p := weighted(RoundRobin, 1, 1, 1)
	b := boardOf(p)
	b.limit(p, 1, 1)
	k := b.picker(p, 0)
	b.held[1].Store(1)
	if got := letters(k, 6); got != "acacac" {
		t.Errorf("picked %s while b is full", got)
	}
	b.held[1].Store(0)
	got := make([]int, 3)
	for range 30 {
		got[k.Pick(nil, anyone)]++
	}
	if !slices.Equal(got, []int{10, 10, 10}) {
		t.Errorf("30 sessions after it: %v", got)
	}
}

// A place that comes free between a policy's look and the picker's does not mean that there
// is no target: the session waits for its turn, or gets the place.
func TestFullWhilePlacesComeAndGo(t *testing.T) {
	picks := 200_000
	if testing.Short() {
		picks /= 10 // the race detector makes each ten times as long
	}
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			p := weighted(policy, 1, 1)
			b := boardOf(p)
			for i := range p.Targets {
				b.limit(p, i, 1)
			}
			k := b.picker(p, 0)
			done := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() {
				for held := int64(0); ; held ^= 1 {
					select {
					case <-done:
						return
					default:
						b.held[0].Store(held)
						b.held[1].Store(held)
					}
				}
			})
			for range picks {
				if k.Pick(nil, anyone) == -1 {
					t.Error("picked none, want a target or Full")
					break
				}
			}
			close(done)
			others.Wait()
		})
	}
}
