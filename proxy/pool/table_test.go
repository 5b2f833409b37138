package pool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawClient(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv6") {
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "client")))
	}
	return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "client")))
}

// randomClient is for loops in which drawing would take too long.
func randomClient(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, r.Uint32())))
}

// owners is the address that has each place of a prepared pool's table.
func owners(p Pool, backup bool) []netip.AddrPort {
	var all []netip.AddrPort
	for _, i := range p.tables[tier(backup)] {
		all = append(all, p.Backends[i].Addrs[0])
	}
	return all
}

// places counts them by owner.
func places(p Pool) map[netip.AddrPort]int {
	count := map[netip.AddrPort]int{}
	for _, i := range p.tables[tier(false)] {
		count[p.Backends[i].Addrs[0]]++
	}
	return count
}

// drawPool draws a pool of which some backends have several addresses, and some share
// one.
func drawPool(t *rapid.T) Pool {
	p := Pool{Pick: SourceHash}
	for i := range rapid.IntRange(0, 12).Draw(t, "backends") {
		b := Backend{Name: fmt.Sprint(i), Weight: rapid.IntRange(1, 256).Draw(t, "weight"), Backup: rapid.Bool().Draw(t, "backup")}
		for _, j := range rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 0, 4, rapid.ID).Draw(t, "addresses") {
			b.Addrs = append(b.Addrs, at(j)...)
		}
		p.Backends = append(p.Backends, b)
	}
	return p
}

// Instances agree whatever the order of backends, and of a name's addresses, in their
// files and in the name server's answers.
func TestTableIsTheSameInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := drawPool(t)
		other := one
		other.Backends = rapid.Permutation(one.Backends).Draw(t, "order") // a copy
		for i := range other.Backends {
			b := &other.Backends[i]
			b.Addrs = rapid.Permutation(b.Addrs).Draw(t, "addresses")
		}
		one, other = one.Prepare(), other.Prepare()
		for i := range one.tables {
			if !slices.Equal(one.tables[i], other.tables[i]) {
				t.Fatalf("the tables of tier %d differ", i)
			}
		}
		for i, b := range one.Backends {
			if got := other.Backends[i].Addrs[0]; got != b.Addrs[0] {
				t.Fatalf("number %d is %v there, want %v", i, got, b.Addrs[0])
			}
		}
	})
}

// The number of places follows the weights: by less than one, and less than n more
// over all n backends, which begin with a place each.
func TestPlacesFollowWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 100).Draw(t, "weights")
		count := places(weighted(SourceHash, weights...).Prepare())
		sum := 0
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			share := float64(w) / float64(sum)
			got, want := float64(count[at(i)[0]]), share*tableSize
			if bound := 1 + share*float64(len(weights)); got < want-bound || got > want+bound {
				t.Fatalf("backend %d of weight %d has %v places, want %.1f ± %.1f", i, w, got, want, bound)
			}
		}
	})
}

// A name has its weight however many addresses it has; these share it evenly.
func TestAddressesShareAWeight(t *testing.T) {
	p := Pool{Pick: SourceHash, Backends: []Backend{
		{Name: "one", Addrs: at(0), Weight: 3},
		{Name: "three", Addrs: slices.Concat(at(1), at(2), at(3)), Weight: 3},
	}}
	count := places(p.Prepare())
	for i, want := range []int{tableSize / 2, tableSize / 6, tableSize / 6, tableSize / 6} {
		if got := count[at(i)[0]]; got < want-3 || got > want+3 {
			t.Errorf("address %d has %d places, want %d", i, got, want)
		}
	}
}

// Random clients and those of one network spread over backends as the weights say.
// 200,000 clients give the least of them 20,000 ± 140; five times that would be chance
// once in a million, and the random ones are always the same.
func TestClientsSpread(t *testing.T) {
	const clients = 200_000
	r := rand.New(rand.NewPCG(1, 2))
	network := netip.MustParseAddr("10.0.0.0")
	for name, next := range map[string]func() netip.Addr{
		"random":  func() netip.Addr { return randomClient(r) },
		"network": func() netip.Addr { network = network.Next(); return network },
	} {
		t.Run(name, func(t *testing.T) {
			weights := []int{1, 2, 3, 4}
			k := NewPicker(weighted(SourceHash, weights...).Prepare(), 0, noSessions)
			got := make([]int, len(weights))
			for range clients {
				got[k.Pick(0, next())]++
			}
			for i, w := range weights {
				want := clients * w / 10
				if off := got[i] - want; off < -700 || off > 700 {
					t.Errorf("weight %d got %d clients, want %d", w, got[i], want)
				}
			}
		})
	}
}

// When one of n backends leaves, its places go to the others; of the places of these
// few change hands. Measured over n from 2 to 1000, with and without weights: at most
// 1.2%. It is the same table the other way round, when one comes.
func TestFewMoveWhenOneLeaves(t *testing.T) {
	for _, n := range []int{2, 3, 10, 100, 300} {
		for _, heaviest := range []int{1, 5, 256} {
			r := rand.New(rand.NewPCG(uint64(n), uint64(heaviest)))
			weights := make([]int, n)
			for i := range weights {
				weights[i] = 1 + r.IntN(heaviest)
			}
			p := weighted(SourceHash, weights...)
			gone := at(n / 2)[0]
			less := p
			less.Backends = slices.Delete(slices.Clone(p.Backends), n/2, n/2+1)
			before, after := owners(p.Prepare(), false), owners(less.Prepare(), false)
			kept, moved := 0, 0
			for i, a := range before {
				if a == gone {
					continue
				}
				kept++
				if after[i] != a {
					moved++
				}
			}
			if moved*100 > kept*2 {
				t.Errorf("n=%d, weights up to %d: %d of %d moved", n, heaviest, moved, kept)
			}
		}
	}
}

// The clients of a backend that fails do not all go to the same other one, but each
// always to its own.
func TestSecondChoicesSpread(t *testing.T) {
	const n, clients = 5, 50_000
	p := weighted(SourceHash, 1, 1, 1, 1, 1).Prepare()
	here, there := NewPicker(p, 0, noSessions), NewPicker(p, 7, noSessions)
	r := rand.New(rand.NewPCG(3, 4))
	var second [n][n]int
	for range clients {
		c := randomClient(r)
		first := here.Pick(0, c)
		next := here.Pick(TriedBit(first), c)
		if next == first || there.Pick(0, c) != first || there.Pick(TriedBit(first), c) != next {
			t.Fatalf("%v goes to %d, then %d; elsewhere to %d, then %d", c, first, next, there.Pick(0, c), there.Pick(TriedBit(first), c))
		}
		second[first][next]++
	}
	for first, row := range second {
		for next, got := range row {
			if want := clients / n / (n - 1); next != first && (got < want*9/10 || got > want*11/10) {
				t.Errorf("from %d to %d went %d clients, want %d", first, next, got, want)
			}
		}
	}
}

func TestBackupsHaveTheirOwnTable(t *testing.T) {
	p := weighted(SourceHash, 1, 1, 1, 1)
	p.Backends[1].Backup, p.Backends[3].Backup = true, true
	p = p.Prepare()
	k := NewPicker(p, 0, noSessions)
	seen := map[int]bool{}
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		c := randomClient(r)
		if i := k.Pick(0, c); p.Backends[i].Backup {
			t.Fatalf("%v goes to a backup", c)
		}
		i := k.Pick(TriedBit(0)|TriedBit(2), c)
		if i < 0 || !p.Backends[i].Backup {
			t.Fatalf("%v goes to %d without a primary", c, i)
		}
		seen[i] = true
	}
	if len(seen) != 2 {
		t.Errorf("of the backups only %v were picked", seen)
	}
}

// An instance that listens on IPv6 alone sees IPv4 clients as IPv6, and may have its
// backends written so.
func TestMappedAddressesAreTheSame(t *testing.T) {
	p := weighted(SourceHash, 1, 2, 3)
	mapped := p
	mapped.Backends = slices.Clone(p.Backends)
	for i := range mapped.Backends {
		a := p.Backends[i].Addrs[0]
		mapped.Backends[i].Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())}
	}
	plain, six := NewPicker(p.Prepare(), 0, noSessions), NewPicker(mapped.Prepare(), 0, noSessions)
	rapid.Check(t, func(t *rapid.T) {
		c := drawClient(t)
		if got, want := six.Pick(0, netip.AddrFrom16(c.As16())), plain.Pick(0, c); got != want {
			t.Fatalf("%v goes to %d, want %d", c, got, want)
		}
	})
}

// These answers are a promise: another version of sluice must give the same, or
// instances disagree while they are replaced one by one.
func TestAgreement(t *testing.T) {
	p := Pool{Pick: SourceHash, Backends: []Backend{
		{Name: "a:80", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:80"), netip.MustParseAddrPort("192.0.2.11:80")}, Weight: 1},
		{Name: "b:80", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.20:80")}, Weight: 2},
		{Name: "c:80", Addrs: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::c]:80")}, Weight: 3},
		{Name: "d:81", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.20:81")}, Weight: 1, Backup: true},
		{Name: "e:81", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.30:81")}, Weight: 1, Backup: true},
	}}
	p = p.Prepare()
	k := NewPicker(p, 0, noSessions)
	for client, want := range map[string][2]string{
		"127.0.0.1":     {"192.0.2.20:80", "192.0.2.11:80"},
		"198.51.100.7":  {"192.0.2.11:80", "192.0.2.20:80"},
		"198.51.100.8":  {"192.0.2.11:80", "192.0.2.20:80"},
		"203.0.113.200": {"192.0.2.20:80", "[2001:db8::c]:80"},
		"::1":           {"192.0.2.20:80", "[2001:db8::c]:80"},
		"2001:db8::1":   {"192.0.2.20:80", "[2001:db8::c]:80"},
	} {
		c := netip.MustParseAddr(client)
		first := k.Pick(0, c)
		second := k.Pick(TriedBit(first), c)
		if got := [2]string{p.Backends[first].Addrs[0].String(), p.Backends[second].Addrs[0].String()}; got != want {
			t.Errorf("%s goes to %q, want %q", client, got, want)
		}
	}
	for backup, want := range map[bool]uint32{false: 0xbf5358c8, true: 0xd60f74e9} {
		sum := crc32.NewIEEE()
		for _, a := range owners(p, backup) {
			fmt.Fprintln(sum, a)
		}
		if got := sum.Sum32(); got != want {
			t.Errorf("the table, backup %v, has the checksum %#x, want %#x", backup, got, want)
		}
	}
}

func TestPrepareLeavesOtherPoliciesAlone(t *testing.T) {
	p := weighted(LeastSessions, 1)
	p.Backends[0].Addrs = slices.Concat(at(0), at(1))
	if got := p.Prepare(); len(got.Backends) != 1 || got.tables[0] != nil {
		t.Errorf("became %d backends with a table of %d places", len(got.Backends), len(got.tables[0]))
	}
}

// What Pick costs when clients differ, and so the table is not in the CPU's cache.
func BenchmarkPickBySource(b *testing.B) {
	weights := make([]int, 30)
	for i := range weights {
		weights[i] = 1 + i%5
	}
	k := NewPicker(weighted(SourceHash, weights...).Prepare(), 0, noSessions)
	r := rand.New(rand.NewPCG(7, 8))
	clients := make([]netip.Addr, 1<<16)
	for i := range clients {
		clients[i] = randomClient(r)
	}
	for _, tried := range []uint64{0, 1<<29 - 1} {
		b.Run(fmt.Sprintf("tried=%d", min(tried, 29)), func(b *testing.B) {
			for i := range b.N {
				k.Pick(tried, clients[i%len(clients)])
			}
		})
	}
}

func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{3, 30, 300, 3000} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			weights := make([]int, n)
			for i := range weights {
				weights[i] = 1 + i%5
			}
			p := weighted(SourceHash, weights...)
			for range b.N {
				p.Prepare()
			}
		})
	}
}
