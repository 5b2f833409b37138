package journal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"sluice/metrics"
)

// Size is how many records a ring holds. 16,384 x 128 bytes = 2 MiB a seat, of which
// only what was written is memory: none while no records are wanted. An acceptor
// that ends 20,000 sessions a second is 0.8 s ahead of the reader before one is
// lost.
const Size = 1 << 14

// margin is how many of the oldest records the reader leaves alone: the writer may be
// about to write over them, and a weakly ordered CPU may show that sooner than the head.
const margin = 64

// ring is a seat's part of the memory.
type ring struct {
	head   atomic.Uint64 // records ever written; the seat's acceptor writes it
	_      [7]uint64
	asleep atomic.Uint64 // 1: the reader wants the bell; it sets that, the acceptor takes it away
	_      [7]uint64
	_      [ringHead - 128]byte
	record [Size][recordWords]uint64
}

const (
	ringHead = 64 << 10 // a ring starts on a page, see the board's pageAlign
	ringSize = ringHead + Size*recordWords*8
)

var _ [ringSize - unsafe.Sizeof(ring{})]struct{}
var _ [unsafe.Sizeof(ring{}) - ringSize]struct{}

// Journal is the memory of all rings, owned by the control plane's process.
type Journal struct {
	fd    int
	bell  int // an eventfd
	mem   []byte
	seats atomic.Uint64 // a bit for each that was opened
}

// New makes a journal that is not written yet. The caller closes it, after its Reader
// and all writers of this process have ended.
func New() (*Journal, error) {
	j, err := create()
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	return j, nil
}

func create() (*Journal, error) {
	fd, err := metrics.CreateShared("sluice-journal", metrics.MaxAcceptors*int64(ringSize))
	if err != nil {
		return nil, err
	}
	mem, err := metrics.MapShared(fd, 0, metrics.MaxAcceptors*ringSize)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	bell, err := newBell()
	if err != nil {
		metrics.Unmap(mem)
		closeFD(fd)
		return nil, err
	}
	return &Journal{fd: fd, bell: bell, mem: mem}, nil
}

// FD and Bell are the descriptors that a worker needs, see Open. They stay the Journal's.
func (j *Journal) FD() int   { return j.fd }
func (j *Journal) Bell() int { return j.bell }

// Close unmaps the memory.
func (j *Journal) Close() error {
	return errors.Join(metrics.Unmap(j.mem), closeFD(j.fd), closeFD(j.bell))
}

// Use has the Reader look at a seat's ring from now on. It must be called before
// an acceptor is to write there.
func (j *Journal) Use(seat int) {
	if bit := uint64(1) << seat; j.seats.Or(bit)&bit == 0 {
		j.Wake() // the Reader may sleep without an ear for this seat
	}
}

// Wake has the Reader look once, also for what a writer that died has left.
func (j *Journal) Wake() { strike(j.bell) }

func (j *Journal) ring(seat int) *ring {
	return (*ring)(unsafe.Pointer(&j.mem[seat*ringSize]))
}

// Writer is the ring of a seat in this process. See Open for another's.
func (j *Journal) Writer(seat int) *Writer { return newWriter(j.ring(seat), seat, j.bell) }
