package pool

import "net/netip"

// Picker is one acceptor's way through a pool's backends. It is not safe for
// concurrent use, and costs no lock for that.
type Picker struct {
	pool     Pool
	sessions func(i int) int64 // held by backend i over all acceptors
	current  []int             // smooth weighted round robin: the running weights
	turn     int               // where the search starts, so that ties take turns
}

// NewPicker makes a picker for p, which Prepare has returned. sessions tells how
// many sessions backend i holds, over all acceptors. seed shifts the first pick, so
// that acceptors that start together do not all start with the same backend.
func NewPicker(p Pool, seed int, sessions func(i int) int64) *Picker {
	k := &Picker{pool: p, sessions: sessions, current: make([]int, len(p.Backends)), turn: seed}
	if len(p.Backends) > 0 {
		for range seed % 64 {
			k.roundRobin(0, false)
		}
	}
	return k
}

// Pick returns the index of the backend for a session's next try, or -1 if none may
// be picked. tried has the bit TriedBit(i) of each backend that failed this session;
// client is looked at by SourceHash only. Backups are picked only when no other backend
// may be.
func (k *Picker) Pick(tried uint64, client netip.Addr) int {
	for _, backup := range [2]bool{false, true} {
		i := -1
		switch k.pool.Pick {
		case SourceHash:
			i = k.sourceHash(tried, client, backup)
		case LeastSessions:
			i = k.leastSessions(tried, backup)
		default:
			i = k.roundRobin(tried, backup)
		}
		if i >= 0 {
			return i
		}
	}
	return -1
}

// TriedBit is backend i's bit in the set of tried ones. From the 65th backend on two
// share a bit: a session then passes over one that it might have tried, of many.
func TriedBit(i int) uint64 { return 1 << (i % 64) }

func (k *Picker) available(i int, tried uint64, backup bool) bool {
	b := &k.pool.Backends[i]
	return b.Backup == backup && len(b.Addrs) > 0 && tried&TriedBit(i) == 0
}

// roundRobin is nginx's smooth weighted round robin (2012, commit 52327e0627): each
// backend gains its weight, the richest is picked and pays the sum. Weights 5, 1, 1
// give a a b a c a a and not a a a a a b c.
func (k *Picker) roundRobin(tried uint64, backup bool) int {
	best, sum := -1, 0
	for i := range k.pool.Backends {
		if !k.available(i, tried, backup) {
			continue
		}
		w := k.pool.Backends[i].Weight
		k.current[i] += w
		sum += w
		if best < 0 || k.current[i] > k.current[best] {
			best = i
		}
	}
	if best >= 0 {
		k.current[best] -= sum
	}
	return best
}

// leastSessions picks the fewest sessions for the weight; a/wa < b/wb is compared as
// a*wb < b*wa.
func (k *Picker) leastSessions(tried uint64, backup bool) int {
	n := len(k.pool.Backends)
	best, held := -1, int64(0)
	k.turn++
	for j := range n {
		i := (k.turn + j) % n
		if !k.available(i, tried, backup) {
			continue
		}
		h := k.sessions(i)
		if best < 0 || h*int64(k.pool.Backends[best].Weight) < held*int64(k.pool.Backends[i].Weight) {
			best, held = i, h
		}
	}
	return best
}

// sourceHash picks the first backend on the client's way through the table. Nothing
// but the client and what was tried counts, so that all acceptors and all instances pick
// the same.
func (k *Picker) sourceHash(tried uint64, client netip.Addr, backup bool) int {
	t := k.pool.tables[tier(backup)]
	if tried != 0 && !k.anyAvailable(tried, backup) { // else it would look at every place
		return -1
	}
	w := clientWalk(client)
	for range t {
		if i := int(t[w.place]); tried&TriedBit(i) == 0 {
			return i
		}
		w.next()
	}
	return -1
}

func (k *Picker) anyAvailable(tried uint64, backup bool) bool {
	for i := range k.pool.Backends {
		if k.available(i, tried, backup) {
			return true
		}
	}
	return false
}
