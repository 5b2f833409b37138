package access

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"sluice/metrics"
)

// Limit bounds what one source of connections may take of a listener. A source is all
// addresses with the same prefix.
type Limit struct {
	IPv4, IPv6 int // lengths of the prefix
	Sessions   int // at a time; 0 = any number
	Rate       Rate
}

// On says whether there is a limit.
func (l *Limit) On() bool { return l.Sessions > 0 || l.Rate.Every > 0 }

// Rate bounds new sessions: one for each Every, and so many of them at once that Burst
// have gathered. The zero Rate has no bound.
type Rate struct {
	Every time.Duration
	Burst int
}

// Sources counts what sources take, exactly over all acceptors of a service: they share one
// table of fixed size.
//
//	hash of listener and prefix ─► one of 32,768 rows ─► its 8 places: mark of 40 bits │ sessions
//	                                                                   as far as the rate is spent
//
// A place is taken by compare-and-swap and kept while its source has sessions. One without
// sessions whose rate has recovered holds nothing, and is the first to be given to another;
// then, those whose rate has recovered most: that is an eviction, and the source begins anew.
// A source that finds 8 others with sessions in its row is let in uncounted. Of 50,000
// sources at a time that happens to about one; both are counted.
//
// Two acceptors that see a source for the first time may take two places for it: the
// one that finds the other's behind its own gives its own back.
type Sources struct {
	table     []metrics.Source
	held      []atomic.Uint32 // this acceptor's
	secret    [2]uint64
	evicted   *metrics.Counter
	untracked *metrics.Counter
}

const (
	places    = 8 // of a row: with a quarter of all in use one row of 4,000 has more
	rows      = metrics.MaxSources / places
	countMask = 1<<metrics.SourceBits - 1
	markBit   = 1 << 63 // set in every mark: no place of a source is 0
	maxRounds = 64      // of a look that others disturb
)

// NewSources are the sources of a board as the acceptor of a seat uses them.
func NewSources(b *metrics.Board, seat int) Sources {
	c := b.Acceptor(seat)
	return Sources{table: b.Sources(), held: b.SourcesHeld(seat), secret: b.Secret(), evicted: &c.SourcesEvicted, untracked: &c.SourcesUntracked}
}

// Verdict is what Enter says of a source.
type Verdict uint8

// The verdicts.
const (
	Entered    Verdict = iota
	TooMany            // it has as many sessions as it may
	TooQuickly         // it comes more often than it may
)

// Enter counts a session in. ref is what Leave takes, 0 = nothing is to be given back; of
// TooMany it names the source, and nothing is to be given back either. A session that comes
// too quickly may wait for as long as patience; wait says how long. now is CLOCK_MONOTONIC.
func (s *Sources) Enter(listener metrics.ID, client netip.Addr, l *Limit, now int64, patience time.Duration) (ref uint32, wait time.Duration, v Verdict) {
	if !client.IsValid() {
		return 0, 0, Entered // it has gone already
	}
	hash := s.hash(listener, client, l)
	at, v := s.pin(hash, l, now)
	if at < 0 {
		return 0, 0, v
	}
	ref = uint32(at) + 1
	if v != Entered {
		return ref, 0, v
	}
	s.held[at].Add(1)
	wait, ok := Spend(&s.table[at].Next, l.Rate, now, patience)
	if !ok {
		s.Leave(ref)
		return 0, 0, TooQuickly
	}
	return ref, wait, Entered
}

// Leave counts a session out, and says how many its source has left.
func (s *Sources) Leave(ref uint32) (left int) {
	if ref == 0 {
		return 0
	}
	s.held[ref-1].Add(^uint32(0))
	return int(s.table[ref-1].Word.Add(^uint64(0)) & countMask)
}

// Undo gives back what Enter has spent for a session that does not begin.
func (s *Sources) Undo(ref uint32, l *Limit) {
	if ref != 0 {
		s.table[ref-1].Next.Add(-int64(l.Rate.Every))
		s.Leave(ref)
	}
}

// hash is that of a source. Its prefix is masked here: netip allocates for that.
func (s *Sources) hash(listener metrics.ID, client netip.Addr, l *Limit) uint64 {
	var key [40]byte
	put := func(at int, x uint64) {
		for i := range 8 {
			key[at+i] = byte(x >> (8 * i))
		}
	}
	put(0, s.secret[0])
	put(8, uint64(listener))
	bits, a := l.IPv6, client.As16()
	if client.Is4() {
		bits = l.IPv4 + 96
	}
	for i := range a {
		switch left := bits - 8*i; {
		case left >= 8:
			key[16+i] = a[i]
		case left > 0:
			key[16+i] = a[i] &^ (0xff >> left)
		}
	}
	put(32, s.secret[1])
	return xxhash.Sum64(key[:])
}

// pin finds or takes the place of a source and raises its sessions, unless there are too
// many. at is -1 where it is not counted.
func (s *Sources) pin(hash uint64, l *Limit, now int64) (at int, v Verdict) {
	first := int(hash%rows) * places
	row := s.table[first : first+places]
	mark := hash&^countMask | markBit
	for range maxRounds {
		i := find(row, mark, -1)
		if i < 0 {
			if i = s.take(row, mark, now); i == full {
				break
			} else if i == disturbed {
				continue
			}
			return first + i, Entered
		}
		word := row[i].Word.Load()
		if word&^countMask != mark { // another's by now
			continue
		}
		if l.Sessions > 0 && word&countMask >= uint64(l.Sessions) {
			return first + i, TooMany
		}
		if row[i].Word.CompareAndSwap(word, word+1) {
			return first + i, Entered
		}
	}
	s.untracked.Add(1)
	return -1, Entered
}

// find is the place of a mark, but for one; -1 = there is none.
func find(row []metrics.Source, mark uint64, but int) int {
	for i := range row {
		if i != but && row[i].Word.Load()&^countMask == mark {
			return i
		}
	}
	return -1
}

const (
	full      = -1 // all places have sessions
	disturbed = -2 // another acceptor was faster
)

// take gives a source that has no place one, with one session.
func (s *Sources) take(row []metrics.Source, mark uint64, now int64) int {
	best, bestNext, word := full, int64(0), uint64(0)
	for i := range row {
		w, next := row[i].Word.Load(), row[i].Next.Load()
		if w&countMask != 0 {
			continue
		}
		if w == 0 || next <= now {
			next = now // as good as any that holds nothing: the first of them
		}
		if best == full || next < bestNext {
			best, bestNext, word = i, next, w
		}
	}
	if best == full {
		return full
	}
	next := row[best].Next.Load()
	if !row[best].Word.CompareAndSwap(word, mark|1) {
		return disturbed
	}
	if find(row, mark, best) >= 0 {
		if !row[best].Word.CompareAndSwap(mark|1, 0) { // another acceptor has found it meanwhile
			row[best].Word.Add(^uint64(0))
		}
		return disturbed
	}
	if next > now {
		s.evicted.Add(1)
		row[best].Next.CompareAndSwap(next, 0)
	}
	return best
}

// Spend takes one new session of a rate, at CLOCK_MONOTONIC now. If it comes too early it
// may have to wait, at most for patience; else ok is false, and nothing is taken. next is as
// far as the rate is spent, and never further than this rate can be: the theoretical arrival
// time of the generic cell rate algorithm (ITU-T I.371, annex A), which allows the same as a
// token bucket in one word.
func Spend(next *metrics.Gauge, r Rate, now int64, patience time.Duration) (wait time.Duration, ok bool) {
	if r.Every <= 0 {
		return 0, true
	}
	for {
		was := next.Load()
		wait, from := r.wait(was, now, patience)
		if wait > patience {
			return 0, false
		}
		if next.CompareAndSwap(was, from+int64(r.Every)) {
			return wait, true
		}
	}
}

// wait is how long a session that comes now has to wait, where the rate is spent as far as
// was; from is as far as that is taken to be, since of another rate it may be further.
func (r Rate) wait(was, now int64, patience time.Duration) (wait time.Duration, from int64) {
	spare := int64(r.Every) * int64(max(r.Burst, 1)-1)
	from = min(max(was, now), now+spare+int64(r.Every)+int64(patience))
	return time.Duration(max(from-now-spare, 0)), from
}

// Wait is how long a session that came now would have to wait. It takes nothing.
func (r Rate) Wait(next *metrics.Gauge, now int64, patience time.Duration) time.Duration {
	if r.Every <= 0 {
		return 0
	}
	wait, _ := r.wait(next.Load(), now, patience)
	return wait
}

// Look says how many sessions a source has, and how long one more would have to wait. It
// takes nothing, and finds nothing of a source that is not counted.
func (s *Sources) Look(listener metrics.ID, client netip.Addr, l *Limit, now int64, patience time.Duration) (sessions int, wait time.Duration) {
	hash := s.hash(listener, client, l)
	first := int(hash%rows) * places
	i := find(s.table[first:first+places], hash&^countMask|markBit, -1)
	if i < 0 {
		return 0, 0
	}
	at := &s.table[first+i]
	return int(at.Word.Load() & countMask), l.Rate.Wait(&at.Next, now, patience)
}
