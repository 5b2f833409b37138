package journal

import (
	"math/bits"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"sluice/metrics"
)

// Reader reads all rings of a Journal. Drain and Wait are one goroutine's; the rest may
// be called by any.
type Reader struct {
	j    *Journal
	bell *os.File
	next [metrics.MaxAcceptors]uint64 // by seat: the number of the record to read

	overwritten, damaged atomic.Uint64
	closed               atomic.Bool
}

// NewReader makes the one Reader of a Journal.
func (j *Journal) NewReader() (*Reader, error) {
	bell, err := openBell(j.bell)
	if err != nil {
		return nil, err
	}
	return &Reader{j: j, bell: bell}, nil
}

// Overwritten is how many records were lost because the reader came too late.
func (r *Reader) Overwritten() uint64 { return r.overwritten.Load() }

// Damaged is how many were not what a record can be. A worker that writes at random
// makes as many as it likes; an honest one that is killed makes none.
func (r *Reader) Damaged() uint64 { return r.damaged.Load() }

// Drain hands take what has come since the last call, seat by seat, and returns how many
// records that were. take may keep the record for the length of the call only.
func (r *Reader) Drain(take func(*Record)) (n int) {
	for seat := range r.seats {
		n += r.drain(seat, take)
	}
	return n
}

// seats are those that are in use.
func (r *Reader) seats(yield func(int) bool) {
	for set := r.j.seats.Load(); set != 0; set &= set - 1 {
		if !yield(bits.TrailingZeros64(set)) {
			return
		}
	}
}

// farthest is how far a head may be ahead and still be believed: some days of the
// busiest acceptor.
const farthest = 1 << 40

func (r *Reader) drain(seat int, take func(*Record)) (n int) {
	var rec Record
	ring, next := r.j.ring(seat), &r.next[seat]
	head := ring.head.Load() // what is written meanwhile is the next call's
	if head-*next > farthest {
		r.damaged.Add(1)
		*next = head
		return 0
	}
	for *next != head {
		ring.copy(*next, &rec)
		// Only now is it known whether the writer had come round to it.
		if ahead := ring.head.Load() - *next; ahead > Size-margin {
			lost := min(ahead-(Size-margin), head-*next)
			r.overwritten.Add(lost)
			*next += lost
			continue
		}
		*next++
		if rec.seq != *next || !rec.sound(seat) {
			r.damaged.Add(1)
			continue
		}
		n++
		take(&rec)
	}
	return n
}

// copy reads a record word by word: another process may write it meanwhile.
func (g *ring) copy(number uint64, to *Record) {
	from := &g.record[number%Size]
	words := (*[recordWords]uint64)(unsafe.Pointer(to))
	for i := range from {
		words[i] = atomic.LoadUint64(&from[i])
	}
}

// Recent hands take the records that the rings still hold, read or not, each seat's from
// the oldest on. What is written over meanwhile is left out.
func (r *Reader) Recent(take func(*Record)) {
	var rec Record
	for seat := range r.seats {
		ring := r.j.ring(seat)
		head := ring.head.Load()
		for number := head - min(head, Size-margin); number != head; number++ {
			ring.copy(number, &rec)
			if ring.head.Load()-number <= Size-margin && rec.seq == number+1 && rec.sound(seat) {
				take(&rec)
			}
		}
	}
}

// Oldest is when the oldest record of a seat's ring happened, on CLOCK_MONOTONIC; 0 = there
// is none. forgot says whether there were older ones.
func (r *Reader) Oldest(seat int) (at int64, forgot bool) {
	var rec Record
	ring := r.j.ring(seat)
	head := ring.head.Load()
	for number := head - min(head, Size-margin); number != head; number++ {
		ring.copy(number, &rec)
		if ring.head.Load()-number <= Size-margin && rec.seq == number+1 && rec.sound(seat) {
			return rec.At, number > 0
		}
	}
	return 0, head > 0
}

// Wait sleeps until there is something to drain, or Close. It returns false after Close.
func (r *Reader) Wait() bool {
	seats := slices.Collect(r.seats)
	for _, seat := range seats {
		r.j.ring(seat).asleep.Store(1)
	}
	for _, seat := range seats { // what came before the writer could see that
		if r.j.ring(seat).head.Load() != r.next[seat] {
			return !r.closed.Load()
		}
	}
	var count [8]byte
	_, err := r.bell.Read(count[:])
	return err == nil && !r.closed.Load()
}

// Close ends a Wait for good. The Journal is closed after it, and after the goroutine
// that drains.
func (r *Reader) Close() {
	r.closed.Store(true)
	r.bell.Close()
}
