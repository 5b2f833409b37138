package journal

import (
	"fmt"
	"unsafe"

	"sluice/metrics"
)

// Writer is an acceptor's end of its ring. It belongs to the loop. A nil one takes
// nothing, for an acceptor without a journal.
type Writer struct {
	ring *ring
	seat int
	bell int
	head uint64 // records ever written, as the writer knows
	told uint64 // of these, how many the reader may have heard of
	mem  []byte // nil = the Journal's
}

func newWriter(r *ring, seat, bell int) *Writer {
	// The head is a predecessor's, which may have written anything: as a count that
	// goes on it is as good as any.
	head := r.head.Load()
	return &Writer{ring: r, seat: seat, bell: bell, head: head, told: head}
}

// Open maps a seat's ring of another process's Journal. Both descriptors are the
// Writer's from then on, unless it fails.
func Open(fd, bell, seat int) (*Writer, error) {
	w, err := open(fd, bell, seat)
	if err != nil {
		return nil, fmt.Errorf("open journal on descriptor %d: %w", fd, err)
	}
	return w, nil
}

func open(fd, bell, seat int) (*Writer, error) {
	size, err := metrics.SharedSize(fd)
	if err != nil {
		return nil, err
	}
	if want := metrics.MaxAcceptors * int64(ringSize); size != want { // a smaller one must not be touched behind its end
		return nil, fmt.Errorf("%d bytes, want %d", size, want)
	}
	if err := checkBell(bell); err != nil {
		return nil, err
	}
	mem, err := metrics.MapShared(fd, int64(seat)*ringSize, ringSize)
	if err != nil {
		return nil, err
	}
	closeFD(fd) // the mapping stays
	w := newWriter((*ring)(unsafe.Pointer(&mem[0])), seat, bell)
	w.mem = mem
	return w, nil
}

// Write adds a record. It takes the place of the oldest.
func (w *Writer) Write(r *Record) {
	r.seq = w.head + 1
	*(*Record)(unsafe.Pointer(&w.ring.record[w.head%Size])) = *r
	w.head++
	w.ring.head.Store(w.head) // here it counts
}

// Flush is called at the end of a turn: it wakes the reader if it sleeps and there is
// something for it.
func (w *Writer) Flush() {
	if w == nil || w.head == w.told {
		return
	}
	w.told = w.head
	if w.ring.asleep.Load() != 0 && w.ring.asleep.Swap(0) != 0 {
		strike(w.bell)
	}
}
