package pool

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// However few may be picked, the pick is the first of them on the client's way, be it
// found from the side of places or of targets.
func TestSearchFindsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(t, "targets")
		p := weighted(SourceHash, equal(n)...)
		b := boardOf(p)
		k := b.picker(p, 0)
		for i := range n {
			b.weights[i].Store(0)
		}
		for range rapid.IntRange(0, 10).Draw(t, "may be picked") {
			b.weights[rapid.IntRange(0, n-1).Draw(t, "target")].Store(1)
		}
		client := drawClient(t)
		want, w := int32(-1), clientWalk(client)
		for range tableSize {
			if at := int32(k.pool.tables[primaries].owners[w.place]); b.weights[at].Load() != 0 {
				want = at
				break
			}
			w.next()
		}
		if got := k.policy.(*sourceHash).search(primaries, nil, clientWalk(client)); got != want {
			t.Fatalf("search finds %d, want %d", got, want)
		}
		if got := k.Pick(nil, client); got != int(want) {
			t.Fatalf("picked %d, want %d", got, want)
		}
	})
}

// A weight in force that is not 0 moves no client.
func TestSourceHashGoesByConfiguredWeights(t *testing.T) {
	p := weighted(SourceHash, 1, 2, 3)
	b := boardOf(p)
	k, plain := b.picker(p, 0), pickerOf(p)
	for i := range p.Targets {
		b.weights[i].Store(int64(1 + 100*i))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		if c := randomClient(r); k.Pick(nil, c) != plain.Pick(nil, c) {
			t.Fatalf("%v goes to %d, want %d", c, k.Pick(nil, c), plain.Pick(nil, c))
		}
	}
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
				board.weights[i*7919%n].Store(0)
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
