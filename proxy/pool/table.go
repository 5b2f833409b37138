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
// to every place. 100 targets have 655 places each, and one place more or less is
// 0.15% of that. A table takes 128 KiB, and the list of each target's places 256 KiB.
const tableSize = 65537

// table says which target a client goes to. It is a Maglev hash table (Eisenbud et
// al., NSDI 2016, section 3.4) with weights:
//
//	built:   each target walks over the places, from where the hash of its address says;
//	         whose turn it is takes the next free place, and with weight 2 it is twice as often
//	picked:  the client walks over them in the same way: the first place has its target,
//	         the next ones have those for its retries
//
// The same targets always give the same table. A target that leaves gives
// its places to the others, and most other places stay as they were. The client walks
// with a step of its own since neighbouring places are not independent: with a step of 1
// and five targets, retries went to one 2.6 times as often as to another.
//
// All of this is a promise to other instances, of other versions too: TestAgreement
// pins it.
type table struct {
	owners []uint16 // by place: a position (there are 65,536 targets at most); nil without targets
	places []uint32 // sorted by owner
	begins []int32  // by position, counted from its tier's first: where its run in places begins, and one more
}

// placesOf is where a target is, the one with this number in its tier.
func (t *table) placesOf(number int32) []uint32 {
	return t.places[t.begins[number]:t.begins[number+1]]
}

// walk is a way through a table that comes to every place once.
type walk struct{ place, step uint32 }

func newWalk(hash uint64) walk {
	return walk{place: uint32(hash) % tableSize, step: uint32(hash>>32)%(tableSize-1) + 1}
}

// hashOf is the same for IPv4 that is written as IPv6.
func hashOf(client netip.Addr) uint64 {
	key := client.As16()
	return xxhash.Sum64(key[:])
}

func (w *walk) next() { w.place = (w.place + w.step) % tableSize }

// steps tells how far it is from the beginning of a walk to a place.
type steps struct{ first, inverse uint64 }

// steps takes the step's inverse from Fermat: to the power of tableSize-2 it is 1/step.
func (w walk) steps() steps {
	s := steps{first: uint64(w.place), inverse: 1}
	power := uint64(w.step)
	for e := tableSize - 2; e > 0; e >>= 1 {
		if e&1 == 1 {
			s.inverse = s.inverse * power % tableSize
		}
		power = power * power % tableSize
	}
	return s
}

func (s steps) to(place uint32) uint32 {
	return uint32((uint64(place) + tableSize - s.first) * s.inverse % tableSize)
}

// claim is a target's part in the building of a table.
type claim struct {
	due, pace uint64 // time of its next turn, and from turn to turn
	walk      walk
	rank      uint16 // among the claims: by address, and so the same everywhere
	at        uint16 // its position
}

func newClaim(t *Target, at int32) claim {
	const whole = 1 << 32 // the pace of weight 1: so long that rounding shows in no table
	key := keyOf(t)
	return claim{pace: uint64(whole / t.Weight), walk: newWalk(xxhash.Sum64(key[:])), at: uint16(at)}
}

// keyOf is what a target is hashed and sorted by.
func keyOf(t *Target) (key [18]byte) {
	ip := t.Addr.Addr().As16()
	copy(key[:], ip[:])
	binary.BigEndian.PutUint16(key[16:], t.Addr.Port())
	return key
}

func (c *claim) before(d *claim) bool {
	return c.due < d.due || c.due == d.due && c.rank < d.rank
}

// newTable builds the table of a tier. The claims are sorted, and all are due at the same
// time, so they are a heap.
func newTable(p *Prepared, own tier) table {
	if own.first == own.last {
		return table{}
	}
	claims := make([]claim, 0, own.last-own.first)
	for at := own.first; at < own.last; at++ {
		claims = append(claims, newClaim(&p.Targets[p.places[at]], at))
	}
	slices.SortStableFunc(claims, func(a, b claim) int {
		one, other := &p.Targets[p.places[a.at]], &p.Targets[p.places[b.at]]
		x, y := keyOf(one), keyOf(other)
		return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(one.Weight, other.Weight))
	})
	for i := range claims {
		claims[i].rank = uint16(i)
	}
	t := table{owners: make([]uint16, tableSize)}
	taken := make([]bool, tableSize)
	for range t.owners {
		c := &claims[0] // whose turn it is
		for taken[c.walk.place] {
			c.walk.next()
		}
		taken[c.walk.place] = true
		t.owners[c.walk.place] = c.at
		c.due += c.pace
		sink(claims)
	}
	t.list(own)
	return t
}

// list sorts the places by owner, by counting.
func (t *table) list(own tier) {
	t.begins = make([]int32, own.last-own.first+1)
	for _, at := range t.owners {
		t.begins[int32(at)-own.first+1]++
	}
	for i := range t.begins[1:] {
		t.begins[i+1] += t.begins[i]
	}
	t.places = make([]uint32, tableSize)
	next := slices.Clone(t.begins)
	for place, at := range t.owners {
		run := &next[int32(at)-own.first]
		t.places[*run] = uint32(place)
		*run++
	}
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
