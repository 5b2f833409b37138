package pool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/metrics"
)

// What is foreseen is what is picked then, try by try, and to look changes nothing.
func TestForesee(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds /= 10 // the race detector makes each ten times as long
	}
	for _, policy := range []Policy{RoundRobin, LeastSessions, SourceHash, First} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(policy)))
			p := weighted(policy, 1, 3, 2, 1, 5, 1)
			p.Targets[4].Backup, p.Targets[5].Backup = true, true
			b := boardOf(p)
			k, untouched := b.picker(p, 3), b.picker(p, 3)
			for range rounds {
				i := r.IntN(len(p.Targets))
				switch r.IntN(4) {
				case 0:
					b.weigh(uint32(i), int64(r.IntN(3)*WeightScale))
				case 1:
					b.held[i].Store(int64(r.IntN(10)))
				case 2:
					if b.failing[i].Swap(0) == 0 {
						b.fail(p.Targets[i])
					}
				}
				client := randomClient(r)
				ways, full := k.Foresee(client, 4)
				if again, _ := k.Foresee(client, 4); !slices.Equal(ways, again) || full {
					t.Fatalf("%v, and then %v", ways, again)
				}
				var tried []metrics.ID
				for _, want := range ways {
					got, same := k.Pick(tried, client), untouched.Pick(tried, client)
					if got != want || got != same {
						t.Fatalf("foreseen %v; after %v picked %d, %d where nobody looked", ways, tried, got, same)
					}
					tried = append(tried, p.Targets[got].ID)
				}
				if len(ways) < 4 {
					if got := k.Pick(tried, client); got >= 0 {
						t.Fatalf("foreseen %v only; then picked %d", ways, got)
					}
					untouched.Pick(tried, client)
				}
			}
		})
	}
}

func TestForeseeOfFull(t *testing.T) {
	p := weighted(LeastSessions, 1, 1)
	b := boardOf(p)
	b.limit(p, 0, 1)
	b.limit(p, 1, 1)
	b.held[0].Store(1)
	k := b.picker(p, 0)
	if ways, full := k.Foresee(anyone, 4); len(ways) != 1 || ways[0] != 1 || !full {
		t.Errorf("%v, %v", ways, full)
	}
	if ways, full := pickerOf(weighted(Random2, 1, 1)).Foresee(anyone, 4); ways != nil || full {
		t.Errorf("%v, %v", ways, full)
	}
}
