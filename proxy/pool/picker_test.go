package pool

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// at is an address of its own for each i.
func at(i int) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)}
}

// anyone is a client of whom nothing is known.
var anyone netip.Addr

// weighted is a pool whose backends have these weights.
func weighted(policy Policy, weights ...int) Pool {
	p := Pool{Pick: policy}
	for i, w := range weights {
		p.Backends = append(p.Backends, Backend{Name: fmt.Sprint(i), Addrs: at(i), Weight: w})
	}
	return p
}

func noSessions(int) int64 { return 0 }

func TestRoundRobinIsSmooth(t *testing.T) {
	k := NewPicker(weighted(RoundRobin, 5, 1, 1), 0, noSessions)
	got := ""
	for range 14 {
		got += string('a' + rune(k.Pick(0, anyone)))
	}
	if got != "aabacaaaabacaa" {
		t.Errorf("picked %s", got)
	}
}

// Over a round, which has as many picks as the weights' sum, each backend gets exactly
// its weight, wherever the round starts.
func TestRoundRobinShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 80).Draw(t, "weights")
		k := NewPicker(weighted(RoundRobin, weights...), rapid.IntRange(0, 1000).Draw(t, "seed"), noSessions)
		got, sum := make([]int, len(weights)), 0
		for _, w := range weights {
			sum += w
		}
		for range sum {
			got[k.Pick(0, anyone)]++
		}
		for i, w := range weights {
			if got[i] != w {
				t.Fatalf("backend %d of weight %d got %d of %d", i, w, got[i], sum)
			}
		}
	})
}

// Acceptors that start together do not all start with the same backend.
func TestRoundRobinSeed(t *testing.T) {
	p := weighted(RoundRobin, 1, 1, 1, 1)
	for seed := range 4 {
		if got := NewPicker(p, seed, noSessions).Pick(0, anyone); got != seed {
			t.Errorf("acceptor %d starts with backend %d", seed, got)
		}
	}
}

// What may be picked, for all policies: with names and sessions drawn at random, a
// pick is never tried, never unresolved, and a backup only when nothing else is left;
// -1 comes when nothing is left at all.
func TestPickAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Pool{Pick: rapid.SampledFrom([]Policy{RoundRobin, LeastSessions, SourceHash}).Draw(t, "policy")}
		n := rapid.IntRange(0, 70).Draw(t, "backends")
		held := make([]int64, n)
		for i := range n {
			b := Backend{Weight: rapid.IntRange(1, 256).Draw(t, "weight"), Backup: rapid.Bool().Draw(t, "backup")}
			if rapid.Bool().Draw(t, "resolved") {
				b.Addrs = at(i)
			}
			p.Backends = append(p.Backends, b)
			held[i] = rapid.Int64Range(0, 1000).Draw(t, "sessions")
		}
		p = p.Prepare() // SourceHash leaves the unresolved out
		k := NewPicker(p, rapid.IntRange(0, 100).Draw(t, "seed"), func(i int) int64 { return held[i] })
		for range 10 {
			tried := rapid.Uint64().Draw(t, "tried")
			allowed := [2]int{} // by Backup
			for i, b := range p.Backends {
				if len(b.Addrs) > 0 && tried&TriedBit(i) == 0 {
					allowed[map[bool]int{true: 1}[b.Backup]]++
				}
			}
			i := k.Pick(tried, drawClient(t))
			if i < 0 {
				if allowed != [2]int{} {
					t.Fatalf("none picked of %v", allowed)
				}
				continue
			}
			if b := p.Backends[i]; len(b.Addrs) == 0 || tried&TriedBit(i) != 0 || b.Backup && allowed[0] > 0 {
				t.Fatalf("picked %d, %+v, tried %b", i, b, tried&TriedBit(i))
			}
		}
	})
}

// Every backend of a pool of up to 64 is tried before a session gives up, each once.
func TestEachIsTriedOnce(t *testing.T) {
	for _, policy := range []Policy{RoundRobin, LeastSessions, SourceHash} {
		p := weighted(policy, 3, 2, 1, 1)
		p.Backends[3].Backup = true
		k := NewPicker(p.Prepare(), 0, noSessions)
		var tried uint64
		var order []int
		for i := k.Pick(tried, anyone); i >= 0; i = k.Pick(tried, anyone) {
			order = append(order, i)
			tried |= TriedBit(i)
		}
		if len(order) != 4 || order[3] != 3 {
			t.Errorf("policy %d tried %v, want each once and the backup last", policy, order)
		}
	}
}

// Past 64 backends two share a bit. Nobody is picked again, and all are picked in turn.
func TestManyBackends(t *testing.T) {
	weights := make([]int, 200)
	for i := range weights {
		weights[i] = 1
	}
	for _, policy := range []Policy{RoundRobin, LeastSessions} {
		k := NewPicker(weighted(policy, weights...), 0, noSessions)
		seen := map[int]bool{}
		for range weights {
			seen[k.Pick(0, anyone)] = true
		}
		if len(seen) != len(weights) {
			t.Errorf("policy %d picked %d of %d in a round", policy, len(seen), len(weights))
		}
		if i := k.Pick(TriedBit(3), anyone); i%64 == 3 {
			t.Errorf("policy %d picked %d, which shares the bit of the tried 3", policy, i)
		}
	}
}

// The pick is a minimum of sessions by weight, and ties take turns.
func TestLeastSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 20).Draw(t, "weights")
		held := make([]int64, len(weights))
		for i := range held {
			held[i] = rapid.Int64Range(0, 1<<31).Draw(t, "sessions")
		}
		i := NewPicker(weighted(LeastSessions, weights...), 0, func(i int) int64 { return held[i] }).Pick(0, anyone)
		for j := range weights {
			if held[j]*int64(weights[i]) < held[i]*int64(weights[j]) {
				t.Fatalf("picked %d with %d/%d, but %d has %d/%d", i, held[i], weights[i], j, held[j], weights[j])
			}
		}
	})
}

func TestLeastSessionsTies(t *testing.T) {
	k := NewPicker(weighted(LeastSessions, 1, 1, 1), 0, noSessions)
	got := make([]int, 3)
	for range 30 {
		got[k.Pick(0, anyone)]++
	}
	if got[0] != 10 || got[1] != 10 || got[2] != 10 {
		t.Errorf("ties were broken %v", got)
	}
}

// Sessions that stay end up in the weights' proportion.
func TestLeastSessionsFills(t *testing.T) {
	held := make([]int64, 3)
	k := NewPicker(weighted(LeastSessions, 4, 2, 1), 0, func(i int) int64 { return held[i] })
	for range 700 {
		held[k.Pick(0, anyone)]++
	}
	if held[0] != 400 || held[1] != 200 || held[2] != 100 {
		t.Errorf("700 sessions on weights 4, 2, 1: %v", held)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range []Policy{RoundRobin, LeastSessions, SourceHash} {
		k := NewPicker(weighted(policy, 1, 2, 3).Prepare(), 0, noSessions)
		if n := testing.AllocsPerRun(100, func() { k.Pick(1, anyone) }); n != 0 {
			t.Errorf("policy %d: %v objects per pick", policy, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, policy := range []Policy{RoundRobin, LeastSessions, SourceHash} {
		for _, n := range []int{3, 30, 300} {
			b.Run(fmt.Sprintf("policy=%d/backends=%d", policy, n), func(b *testing.B) {
				weights := make([]int, n)
				for i := range weights {
					weights[i] = 1 + i%5
				}
				k := NewPicker(weighted(policy, weights...).Prepare(), 0, noSessions)
				b.ReportAllocs()
				for range b.N {
					k.Pick(0, anyone)
				}
			})
		}
	}
}
