package pool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// tableSize is how many places a table has: a prime, so that steps of any length come
// to every place. 100 backends have 655 places each, and one place more or less is
// 0.15% of that. A table takes 128 KiB.
const tableSize = 65537

// maxTargets is how many backends a table can tell apart in 16 bits; freePlace is none.
const (
	maxTargets = 1<<16 - 1
	freePlace  = maxTargets
)

// table says which backend a client goes to. It is a Maglev hash table (Eisenbud et
// al., NSDI 2016, section 3.4) with weights:
//
//	built:   each backend walks over the places, from where the hash of its address says;
//	         whose turn it is takes the next free place, and with weight 2 it is twice as often
//	picked:  the client walks over them in the same way: the first place has its backend,
//	         the next ones have those for its retries
//
// Who builds it of the same backends has the same table. A backend that leaves gives
// its places to the others, and most other places stay as they were. The client walks
// with a step of its own since neighbouring places are not independent: with a step of 1
// and five backends, retries went to one 2.6 times as often as to another.
//
// All of this is a promise to other instances, of other versions too: TestAgreement
// pins it.
type table []uint16 // by place: an index in Pool.Backends; nil without backends

// walk is a way through a table that comes to every place once.
type walk struct{ place, step uint32 }

func newWalk(key []byte) walk {
	h := xxhash.Sum64(key)
	return walk{place: uint32(h) % tableSize, step: uint32(h>>32)%(tableSize-1) + 1}
}

// clientWalk is the same for IPv4 that is written as IPv6.
func clientWalk(client netip.Addr) walk {
	key := client.As16()
	return newWalk(key[:])
}

func (w *walk) next() { w.place = (w.place + w.step) % tableSize }

// target is one address of a backend.
type target struct {
	backend Backend // with this address only
	id      [18]byte
	parts   int // how many addresses share the backend's weight
}

// targetsOf lists all addresses, the same way whatever the order in which they came.
func targetsOf(backends []Backend) []target {
	var all []target
	for _, b := range backends {
		for i, addr := range b.Addrs {
			t := target{backend: b, parts: len(b.Addrs)}
			t.backend.Addrs = b.Addrs[i : i+1]
			ip := addr.Addr().As16()
			copy(t.id[:], ip[:])
			binary.BigEndian.PutUint16(t.id[16:], addr.Port())
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b target) int {
		return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.backend.Weight, b.backend.Weight), cmp.Compare(a.parts, b.parts),
			cmp.Compare(tier(a.backend.Backup), tier(b.backend.Backup)))
	})
	return all[:min(len(all), maxTargets)]
}

// claim is a target's part in the building of a table.
type claim struct {
	due, pace uint64 // time of its next turn, and from turn to turn
	walk      walk
	target    uint16 // its number
}

func newClaim(number int, t target) claim {
	const whole = 1 << 32 // the pace of weight 1: so long that rounding shows in no table
	return claim{pace: uint64(whole * t.parts / t.backend.Weight), walk: newWalk(t.id[:]), target: uint16(number)}
}

func (c *claim) before(d *claim) bool {
	return c.due < d.due || c.due == d.due && c.target < d.target
}

// newTable gives each place to one of the claims, which come in the order of their
// targets: all are due at the same time, so they are a heap.
func newTable(claims []claim) table {
	if len(claims) == 0 {
		return nil
	}
	t := make(table, tableSize)
	for i := range t {
		t[i] = freePlace
	}
	for range t {
		c := &claims[0] // whose turn it is
		for t[c.walk.place] != freePlace {
			c.walk.next()
		}
		t[c.walk.place] = c.target
		c.due += c.pace
		sink(claims)
	}
	return t
}

// sink puts the first of a heap, and only it is out of order, in its place.
func sink(heap []claim) {
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].before(&heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}
