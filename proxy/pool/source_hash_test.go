package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// However few may be picked, the pick is the first of them on the client's way,
// whether found from the side of places or of targets.
func TestSearchFindsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(t, "targets")
		p := weighted(SourceHash, equal(n)...)
		b := boardOf(p)
		k := b.picker(p, 0)
		for i := range n {
			b.weigh(uint32(i), 0)
		}
		for range rapid.IntRange(0, 10).Draw(t, "may be picked") {
			b.weigh(uint32(rapid.IntRange(0, n-1).Draw(t, "target")), 1)
		}
		client := drawClient(t)
		want, w := int32(-1), newWalk(hashOf(client))
		for range tableSize {
			if at := int32(k.pool.tables[primaries].owners[w.place]); b.weights[at].Load() != 0 {
				want = at
				break
			}
			w.next()
		}
		if got := k.policy.(*sourceHash).search(primaries, nil, newWalk(hashOf(client)), bound{}); got != want {
			t.Fatalf("search finds %d, want %d", got, want)
		}
		if got := k.Pick(nil, client); got != int(want) {
			t.Fatalf("picked %d, want %d", got, want)
		}
	})
}

// The shares are those of the weights in force, whatever was configured, and as few clients
// as must go elsewhere: of a target whose weight shrinks those that it loses, and to one
// whose weight grows those that it wins.
func TestSourceHashFollowsWeights(t *testing.T) {
	const clients = 40_000
	configured := []int{1, 2, 3, 4}
	for _, now := range [][]int64{{64, 128, 192, 256}, {64, 0, 192, 256}, {8, 128, 192, 256}, {64, 512, 192, 256}, {1, 2, 3, 4}, {640, 12, 192, 1}, {300, 300, 300, 300}} {
		p := weighted(SourceHash, configured...)
		b := boardOf(p)
		k, plain := b.picker(p, 0), pickerOf(p)
		var sum, own int64
		for i, w := range now {
			b.weigh(uint32(i), w)
			sum += w
			own += int64(configured[i]) * WeightScale
		}
		r := rand.New(rand.NewPCG(1, 2))
		got, moved := make([]int, len(now)), 0
		for range clients {
			c := randomClient(r)
			i := k.Pick(nil, c)
			got[i]++
			if plain.Pick(nil, c) != i {
				moved++
			}
		}
		must := 0.0 // half of what the shares differ by
		for i, w := range now {
			share := float64(w) / float64(sum)
			must += math.Abs(share-float64(configured[i])*WeightScale/float64(own)) / 2
			// Four standard deviations, and what the table's own shares are off.
			if off := math.Abs(float64(got[i]) - clients*share); off > 4*math.Sqrt(clients*share*(1-share))+clients*0.002 {
				t.Errorf("weights %v: target %d got %d of %d clients, want %.0f", now, i, got[i], clients, clients*share)
			}
		}
		if changed := slices.Equal(now, []int64{1, 2, 3, 4}); changed && moved > 0 {
			t.Errorf("weights %v moved %d clients", now, moved)
		}
		// Where one weight changes, and where all do in step, hardly more move than must.
		if one := len(now) - same(now, configured); one == 1 && float64(moved) > clients*(must+0.01) {
			t.Errorf("weights %v moved %d of %d clients, want %.0f", now, moved, clients, clients*must)
		}
	}
}

func same(now []int64, configured []int) (n int) {
	for i, w := range configured {
		if now[i] == int64(w)*WeightScale {
			n++
		}
	}
	return n
}

// A picker that has seen a weight sees the next one, and a client that was moved comes back.
func TestSourceHashWeightComesBack(t *testing.T) {
	p := weighted(SourceHash, 1, 1, 1)
	b := boardOf(p)
	k, plain := b.picker(p, 0), pickerOf(p)
	r := rand.New(rand.NewPCG(9, 9))
	for _, w := range []int64{1, 64, 640, 64, 0, 64} {
		b.weigh(1, w)
		moved := 0
		for range 2000 {
			if c := randomClient(r); k.Pick(nil, c) != plain.Pick(nil, c) {
				moved++
			}
		}
		if (w == 64) != (moved == 0) {
			t.Errorf("weight %d in place of 64: %d of 2000 clients moved", w, moved)
		}
	}
}

// With a bound no target ever takes more than its share of the sessions times max_load,
// rounded up, whatever clients come, end and fail; and some target takes each.
func TestSourceHashBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 12).Draw(t, "weights")
		p := weighted(SourceHash, weights...)
		p.MaxLoad = rapid.SampledFrom([]float64{1, 1.1, 1.25, 2}).Draw(t, "max_load")
		b := boardOf(p)
		k := b.picker(p, 0)
		total, sum := int64(0), 0
		for _, w := range weights {
			sum += w
		}
		crowd := rapid.SliceOfN(rapid.Custom(drawClient), 1, 3).Draw(t, "few clients")
		var held []int
		for range rapid.IntRange(1, 150).Draw(t, "sessions") {
			if len(held) > 0 && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				n := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				b.held[held[n]].Add(-1)
				held = slices.Delete(held, n, n+1)
				total--
				continue
			}
			i := k.Pick(nil, rapid.SampledFrom(crowd).Draw(t, "client"))
			if i < 0 {
				t.Fatal("nobody took it")
			}
			held = append(held, i)
			total++
			got := b.held[i].Add(1)
			if bound := math.Ceil(p.MaxLoad * float64(total) * float64(weights[i]) / float64(sum) * (1 + 1e-12)); float64(got) > bound {
				t.Fatalf("target %d of weights %v holds %d of %d sessions, want at most %v", i, weights, got, total, bound)
			}
		}
	})
}

// A session that has tried all that are within their bound gets one that is not.
func TestSourceHashBoundIsNoWall(t *testing.T) {
	p := weighted(SourceHash, 1, 1)
	p.MaxLoad = 1
	b := boardOf(p)
	b.held[1].Store(100)
	k := b.picker(p, 0)
	if i := k.Pick(nil, anyone); i != 0 {
		t.Errorf("picked %d, want the one that has room", i)
	}
	if i := k.Pick([]metrics.ID{p.Targets[0].ID}, anyone); i != 1 {
		t.Errorf("picked %d, want the one that is left", i)
	}
}

// Weights that change and targets that fail count in a bound from the next pick on, wherever
// on the board they lie.
func TestBoundFollowsTheBoard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Pool{Pick: SourceHash, MaxLoad: 1.25}
		for i, id := range rapid.SliceOfNDistinct(rapid.Uint32Range(0, 60), 1, 40, rapid.ID).Draw(t, "ids") {
			p.Targets = append(p.Targets, Target{ID: metrics.NewID(id, 1), Addr: at(i), Weight: 1 + i%3, Backup: i%4 == 3})
		}
		b := boardOf(p)
		k := b.picker(p, 0)
		for range 8 {
			one := p.Targets[rapid.IntRange(0, len(p.Targets)-1).Draw(t, "target")]
			switch cell := one.ID.Index(); rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				b.weigh(cell, rapid.SampledFrom([]int64{0, 1, 64, 640}).Draw(t, "weight"))
			case 1:
				b.fail(one)
			case 2:
				b.failing[cell].Swap(0)
			case 3:
				b.held[cell].Add(3)
			}
			for tier := range 2 {
				for _, h := range []*sourceHash{k.policy.(*sourceHash), k.resort.(*sourceHash)} {
					h.pick(tier, nil, anyone)
					sessions, weights := int64(1), int64(0)
					for _, target := range p.Targets {
						cell := target.ID.Index()
						if target.Backup == (tier == backups) && (b.failing[cell].Load() != 0) == h.resort && b.weights[cell].Load() > 0 {
							sessions += b.held[cell].Load()
							weights += b.weights[cell].Load()
						}
					}
					want := bound{}
					if weights > 0 {
						want.load = p.MaxLoad * float64(sessions) / float64(weights)
					}
					if got := h.bound(tier); got != want {
						t.Fatalf("tier %d, resort %v: %v, want %v", tier, h.resort, got, want)
					}
				}
			}
		}
	})
}

// What Pick costs when few of 1,000 targets may be picked. Clients differ, and so the
// table is not in the CPU's nearest cache.
func BenchmarkPickOfFew(b *testing.B) {
	for _, few := range []int{0, 1, 4, 20, 100} {
		b.Run(fmt.Sprintf("few=%d", few), func(b *testing.B) {
			const n = 1000
			p := weighted(SourceHash, equal(n)...)
			board := boardOf(p)
			k := board.picker(p, 0)
			for i := range n - few {
				board.weigh(uint32(i*7919%n), 0)
			}
			r := rand.New(rand.NewPCG(7, 8))
			clients := make([]netip.Addr, 1<<16)
			for i := range clients {
				clients[i] = randomClient(r)
			}
			for i := 0; b.Loop(); i++ {
				k.Pick(nil, clients[i%len(clients)])
			}
		})
	}
}
