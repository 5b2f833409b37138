package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// at is an address of its own for each i.
func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
}

// anyone is a client of which nothing is known.
var anyone netip.Addr

var policies = []Policy{RoundRobin, LeastSessions, SourceHash, Random2, First, Fastest}

func (p Policy) String() string {
	return [...]string{"round_robin", "least_sessions", "source_hash", "random2", "first", "fastest"}[p]
}

// weighted is a pool whose targets have these weights, and the IDs 0, 1, ...
func weighted(policy Policy, weights ...int) *Pool {
	p := &Pool{Pick: policy}
	for i, w := range weights {
		p.Targets = append(p.Targets, Target{ID: metrics.NewID(uint32(i), 1), Backend: fmt.Sprint(i), Addr: at(i), Weight: w})
	}
	return p
}

// equal are n weights of 1.
func equal(n int) []int { return slices.Repeat([]int{1}, n) }

// board is what pickers read, and tests write.
type board struct {
	held, weights []metrics.Gauge
	weighed       metrics.Counter
	failing       []metrics.Failing
	speeds        []metrics.Speed
	limits        []metrics.Gauge
	clock         int64
}

// boardOf is one with the weights of p in force.
func boardOf(p *Pool) *board {
	const n = 1 << 16
	b := &board{
		held: make([]metrics.Gauge, n), weights: make([]metrics.Gauge, n), failing: make([]metrics.Failing, n), speeds: make([]metrics.Speed, n), limits: make([]metrics.Gauge, n),
		clock: int64(time.Hour),
	}
	for _, t := range p.Targets {
		b.weigh(t.ID.Index(), int64(t.Weight)*WeightScale)
	}
	return b
}

// weigh puts a weight in force.
func (b *board) weigh(i uint32, weight int64) {
	b.weights[i].Store(weight)
	b.weighed.Add(1)
}

func (b *board) state() State {
	return State{Held: b.held, Weights: b.weights, Weighed: &b.weighed, Failing: b.failing, Speeds: b.speeds, Limits: b.limits, Clock: &b.clock}
}

func (b *board) picker(p *Pool, seed int) *Picker { return NewPicker(p.Prepare(), seed, b.state()) }

// pickerOf is a picker of its own for p.
func pickerOf(p *Pool) *Picker { return boardOf(p).picker(p, 0) }

// letters are n picks of a pool of at most 26.
func letters(k *Picker, n int) (got string) {
	for range n {
		got += string('a' + rune(k.Pick(nil, anyone)))
	}
	return got
}

// fail has a target fail from now on.
func (b *board) fail(t Target) {
	b.failing[t.ID.Index()].Swap(metrics.NewFailure(time.Hour, 1, 0, metrics.ConnectRefused))
}

// What may be picked, for all policies: with weights, sessions and failures that change
// from pick to pick, a pick is never tried, its weight is not 0, none of a better rank
// could have been picked, and -1 comes when nothing is left at all. The ranks: primaries,
// backups, primaries that fail, backups that fail.
func TestPickAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Pool{Pick: rapid.SampledFrom(policies).Draw(t, "policy")}
		ids := rapid.SliceOfNDistinct(rapid.Uint32Range(0, 1<<16-1), 0, 70, rapid.ID).Draw(t, "ids")
		for i, id := range ids {
			p.Targets = append(p.Targets, Target{
				ID: metrics.NewID(id, 3), Addr: at(i),
				Weight: rapid.IntRange(1, 256).Draw(t, "weight"), Backup: rapid.Bool().Draw(t, "backup"),
			})
		}
		b := boardOf(p)
		k := b.picker(p, rapid.IntRange(0, 63).Draw(t, "seed"))
		for range 10 {
			tried := []metrics.ID{metrics.NewID(7, 2)} // no longer in the pool
			for _, target := range p.Targets {
				i := target.ID.Index()
				b.held[i].Store(rapid.Int64Range(0, 1000).Draw(t, "sessions"))
				b.weigh(i, max(0, rapid.Int64Range(-256, 256).Draw(t, "weight in force")))
				b.failing[i].Swap(0)
				if rapid.Bool().Draw(t, "fails") {
					b.fail(target)
				}
				if len(tried) < 11 && rapid.Bool().Draw(t, "tried") {
					tried = append(tried, target.ID)
				}
			}
			may := func(target Target) bool {
				return b.weights[target.ID.Index()].Load() > 0 && !slices.Contains(tried, target.ID)
			}
			i := k.Pick(tried, drawClient(t))
			if i < 0 {
				if slices.ContainsFunc(p.Targets, may) {
					t.Fatalf("none was picked")
				}
				continue
			}
			rank := func(target Target) (rank int) {
				if target.Backup {
					rank++
				}
				if b.failing[target.ID.Index()].Load() != 0 {
					rank += 2
				}
				return rank
			}
			got := p.Targets[i]
			better := func(target Target) bool { return may(target) && rank(target) < rank(got) }
			if !may(got) || slices.ContainsFunc(p.Targets, better) {
				t.Fatalf("picked %d, %+v of rank %d, tried %v", i, got, rank(got), tried)
			}
		}
	})
}

// Every target of a small pool is tried before a session gives up, each once.
func TestEachIsTriedOnce(t *testing.T) {
	for _, policy := range policies {
		p := weighted(policy, 3, 2, 1, 1)
		p.Targets[1].Backup = true
		k := pickerOf(p)
		var tried []metrics.ID
		var order []int
		for i := k.Pick(tried, anyone); i >= 0; i = k.Pick(tried, anyone) {
			order = append(order, i)
			tried = append(tried, p.Targets[i].ID)
		}
		if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, []int{0, 1, 2, 3}) || order[3] != 1 {
			t.Errorf("%v tried %v, want each once and the backup last", policy, order)
		}
	}
}

// Of 200 targets all but one fail or may not be picked, whichever that is: it is picked.
func TestNobodyIsSkippedUntried(t *testing.T) {
	const n = 200
	for _, policy := range policies {
		p := weighted(policy, equal(n)...)
		b := boardOf(p)
		k := b.picker(p, 0)
		for last := range n {
			var tried []metrics.ID
			for i := range p.Targets {
				switch b.weigh(uint32(i), 1); {
				case i == last:
				case len(tried) < 11:
					tried = append(tried, p.Targets[i].ID)
				default:
					b.weigh(uint32(i), 0)
				}
			}
			if i := k.Pick(tried, anyone); i != last {
				t.Fatalf("%v picked %d, want %d", policy, i, last)
			}
			if i := k.Pick(append(slices.Clone(tried[:10]), p.Targets[last].ID), anyone); i < 0 || p.Targets[i].ID != tried[10] {
				t.Fatalf("%v picked %d, want the one that was not tried", policy, i)
			}
		}
	}
}

// Sessions that retry go on to one target after the other, and all of 200 are reached.
func TestRetriesReachAll(t *testing.T) {
	const n = 200
	for _, policy := range []Policy{RoundRobin, LeastSessions} {
		p := weighted(policy, equal(n)...)
		k := pickerOf(p)
		got := make([]int, n)
		for range n {
			var tried []metrics.ID
			for range 10 {
				i := k.Pick(tried, anyone)
				got[i]++
				if slices.Contains(tried, p.Targets[i].ID) {
					t.Fatalf("%v picked %d again", policy, i)
				}
				tried = append(tried, p.Targets[i].ID)
			}
		}
		if least, most := slices.Min(got), slices.Max(got); least < 9 || most > 11 {
			t.Errorf("%v: of 2,000 tries a target got %d to %d, want 10", policy, least, most)
		}
	}
}

// A Plan that changes a pool does not restart its turns: two sessions from each to the
// next are even over six targets.
func TestAdoptKeepsTurns(t *testing.T) {
	for _, policy := range []Policy{RoundRobin, LeastSessions} {
		p := weighted(policy, equal(6)...)
		b := boardOf(p)
		k := b.picker(p, 5)
		got := make([]int, 6)
		for range 3000 {
			for range 2 {
				got[k.Pick(nil, anyone)]++
			}
			next := b.picker(p, 5)
			next.Adopt(k)
			k = next
		}
		if !slices.Equal(got, []int{1000, 1000, 1000, 1000, 1000, 1000}) {
			t.Errorf("%v: %v", policy, got)
		}
	}
}

// A pool goes on as if there had been no Plan when the same targets come in another order.
func TestAdoptGoesByID(t *testing.T) {
	p := weighted(RoundRobin, 5, 1, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	before := letters(k, 4)
	turned := &Pool{Targets: []Target{p.Targets[2], p.Targets[0], p.Targets[1]}}
	next := b.picker(turned, 3)
	next.Adopt(k)
	for range 3 {
		before += turned.Targets[next.Pick(nil, anyone)].Backend
	}
	if before != "aaba"+"200" {
		t.Errorf("picked %s", before)
	}
}

// Whatever Plans do to a pool, what stays has its turn and what is new waits no longer than
// others: none starves, and turns stay bounded.
func TestNobodyStarvesThroughPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := weighted(RoundRobin, 1)
		b := boardOf(p)
		k := b.picker(p, 0)
		for range rapid.IntRange(1, 30).Draw(t, "plans") {
			next := &Pool{}
			for _, id := range rapid.SliceOfNDistinct(rapid.Uint32Range(0, 30), 1, 12, rapid.ID).Draw(t, "ids") {
				next.Targets = append(next.Targets, Target{ID: metrics.NewID(id, 1), Addr: at(int(id)), Weight: 1})
				b.weigh(id, rapid.SampledFrom([]int64{1, 2, 16, 256}).Draw(t, "weight"))
			}
			made := b.picker(next, 0)
			made.Adopt(k)
			k = made
			for range rapid.IntRange(0, 20).Draw(t, "picks") {
				k.Pick(nil, anyone)
				b.weigh(next.Targets[0].ID.Index(), rapid.SampledFrom([]int64{0, 1, 256}).Draw(t, "weight then"))
			}
			b.weigh(next.Targets[0].ID.Index(), 1)
		}
		checkNobodyStarves(t, k, b)
	})
}

// checkNobodyStarves: each is picked within four rounds from now on. Turns are never more
// than two rounds apart; so the last, with weight 1, is level with the others after two, and
// then waits for its own.
func checkNobodyStarves(t *rapid.T, k *Picker, b *board) {
	sum := 0
	seen := map[int]bool{}
	for _, target := range k.pool.Targets {
		sum += int(b.weights[target.ID.Index()].Load())
	}
	for range 4 * sum {
		seen[k.Pick(nil, anyone)] = true
	}
	if len(seen) != len(k.pool.Targets) {
		t.Fatalf("%d of %d were picked in four rounds", len(seen), len(k.pool.Targets))
	}
}

// Another policy has no turns to take over, and a target that becomes a backup comes new.
func TestAdoptOfAnotherKind(t *testing.T) {
	p := weighted(RoundRobin, 1, 1, 1)
	b := boardOf(p)
	old := b.picker(p, 0)
	old.Pick(nil, anyone)
	for _, policy := range []Policy{LeastSessions, SourceHash, First} {
		q := weighted(policy, 1, 1, 1)
		k := b.picker(q, 1)
		k.Adopt(old)
		if got, want := k.Pick(nil, anyone), b.picker(q, 1).Pick(nil, anyone); got != want {
			t.Errorf("%v picked %d, want %d", policy, got, want)
		}
	}
	for _, policy := range policies {
		was, is := weighted(policy, 1, 1, 1), weighted(policy, 1, 1, 1)
		is.Targets[0].Backup = true
		k, before := b.picker(is, 0), b.picker(was, 0)
		before.Pick(nil, anyone)
		k.Adopt(before)
		for range 6 {
			if k.Pick(nil, anyone) == 0 {
				t.Errorf("%v picked the backup", policy)
			}
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range policies {
		p := weighted(policy, equal(20)...)
		b := boardOf(p)
		k, old := b.picker(p, 0), b.picker(p, 1)
		tried := []metrics.ID{p.Targets[3].ID, p.Targets[0].ID, p.Targets[17].ID}
		if n := testing.AllocsPerRun(100, func() { k.Pick(tried, anyone); k.Adopt(old) }); n != 0 {
			t.Errorf("%v: %v objects per pick", policy, n)
		}
	}
}

var sizes = []int{10, 1000, 10_000}

// mixed is a pool of n targets of weights 1 to 5, and a board on which all hold sessions.
func mixed(policy Policy, n int) (*Pool, *board) {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = 1 + i%5
	}
	p := weighted(policy, weights...)
	b := boardOf(p)
	for i := range n {
		b.held[i].Store(int64(100*weights[i] + i*7919%13))
	}
	return p, b
}

func BenchmarkPick(b *testing.B) {
	for _, policy := range policies {
		for _, n := range sizes {
			for _, fails := range []string{"none", "half", "all"} {
				for _, tries := range []int{0, 3} {
					b.Run(fmt.Sprintf("policy=%v/targets=%d/fails=%s/tried=%d", policy, n, fails, tries), func(b *testing.B) {
						p, board := mixed(policy, n)
						for i, t := range p.Targets {
							if fails == "all" || fails == "half" && i%2 == 0 {
								board.fail(t)
							}
						}
						var tried []metrics.ID
						for i := range tries {
							tried = append(tried, p.Targets[n/2+i].ID)
						}
						k := board.picker(p, 0)
						b.ReportAllocs()
						client := netip.MustParseAddr("10.0.0.0")
						for b.Loop() {
							board.held[k.Pick(tried, client)].Add(1)
							client = client.Next()
						}
					})
				}
			}
		}
	}
}

// A pick while another CPU writes what 15 other acceptors would between two picks: a
// session begun and one ended by each. Those are 30 cache lines to be fetched anew.
func BenchmarkPickContended(b *testing.B) {
	for i, policy := range append(policies, SourceHash) {
		for _, n := range sizes {
			load := 0.0
			if i == len(policies) {
				load = 1.25
			}
			b.Run(fmt.Sprintf("policy=%v/max_load=%v/targets=%d", policy, load, n), func(b *testing.B) {
				p, board := mixed(policy, n)
				p.MaxLoad = load
				k := board.picker(p, 0)
				written, read := make(chan bool), make(chan bool)
				go func() {
					defer close(written)
					for i := 0; <-read; {
						for range 30 {
							i = (i + 7919) % n
							board.held[i].Add(int64(i%2*2 - 1))
						}
						written <- true
					}
				}()
				var total time.Duration
				for b.Loop() {
					read <- true
					<-written
					start := time.Now()
					k.Pick(nil, anyone)
					total += time.Since(start)
				}
				read <- false
				b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/pick")
			})
		}
	}
}

func BenchmarkAdopt(b *testing.B) {
	for _, policy := range policies {
		b.Run(policy.String(), func(b *testing.B) {
			p, board := mixed(policy, 10_000)
			less := &Pool{Pick: policy, Targets: p.Targets[1:]} // and so the turns are settled, too
			one, other := board.picker(p, 0), board.picker(less, 0)
			for b.Loop() {
				other.Adopt(one)
			}
		})
	}
}
