package metrics

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// Board is the shared memory of a service: cells for every seat and everything
// that has an ID, in a file without a disk, mapped by every process. layout.go
// draws it.
//
// The process that made the board owns it: the control plane. Only the owner
// calls OpenListener and its like, GiveBack, Retire, TakeSnapshot and
// Window.Sample. Workers ask for cells and write them. All methods are safe for
// concurrent use; those that return cells are arithmetic and take no lock.
type Board struct {
	mem []byte // the mapping
	fd  int

	mu        sync.Mutex // one owner's method at a time
	used      used
	listeners []ID                 // the last opened one, by index
	targets   []ID                 // the same
	lives     [MaxAcceptors]uint64 // of each seat: grows when it retires, and its counters begin again
}

// used says how many places of each table were ever opened. Behind them all
// cells are zero, and are not looked at.
type used struct{ listeners, pools, targets, routes uint32 }

// errNotBoard says that a descriptor is something else than a board of this version.
var errNotBoard = errors.New("not a board")

const (
	boardMagic = 0x64726f6265636c73 // any number that memory does not hold by chance

	// layoutVersion changes whenever cells of an older process would be misread:
	// fields moved, a spare place taken by something else than what it is spared
	// for (cells.go). A field that takes the place of padding keeps it, and so
	// does a new word: both read as zero until they are written.
	layoutVersion = 6
)

// header is the first cache line of the board.
type header struct {
	magic   uint64
	version uint64
	size    uint64
	born    int64     // CLOCK_MONOTONIC, nanoseconds
	secret  [2]uint64 // see Board.Secret
	weighed Counter
	_       uint64
}

// NewBoard makes an empty board, owned by this process. The caller closes it.
func NewBoard() (*Board, error) {
	fd, err := CreateShared("sluice-board", int64(boardSize))
	if err != nil {
		return nil, fmt.Errorf("create board: %w", err)
	}
	b, err := mapBoard(fd)
	if err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("create board: %w", err)
	}
	h := b.header()
	h.magic, h.version, h.size, h.born, h.secret = boardMagic, layoutVersion, uint64(boardSize), Monotonic(), newSecret()
	return b, nil
}

// OpenBoard maps the board behind fd, which is the Board's from then on (not if
// it fails) and becomes close-on-exec.
func OpenBoard(fd int) (*Board, error) {
	b, err := openBoard(fd)
	if err != nil {
		return nil, fmt.Errorf("open board on descriptor %d: %w", fd, err)
	}
	return b, nil
}

func openBoard(fd int) (*Board, error) {
	size, err := SharedSize(fd)
	if err != nil {
		return nil, err
	}
	if size != int64(boardSize) { // a smaller one must not be touched behind its end
		return nil, fmt.Errorf("%w: %d bytes, want %d", errNotBoard, size, boardSize)
	}
	b, err := mapBoard(fd)
	if err != nil {
		return nil, err
	}
	if err := b.header().check(); err != nil {
		Unmap(b.mem)
		return nil, err
	}
	// What was opened is known to the owner only. A successor takes any place as used.
	b.used = used{MaxListeners, MaxPools, MaxTargets, MaxRoutes}
	return b, nil
}

func (h *header) check() error {
	switch {
	case h.magic != boardMagic:
		return fmt.Errorf("%w: wrong magic number", errNotBoard)
	case h.version != layoutVersion:
		return fmt.Errorf("%w of this version: layout %d, want %d", errNotBoard, h.version, layoutVersion)
	case h.size != uint64(boardSize):
		return fmt.Errorf("%w: damaged header", errNotBoard)
	}
	return nil
}

func mapBoard(fd int) (*Board, error) {
	mem, err := MapShared(fd, 0, int(boardSize))
	if err != nil {
		return nil, err
	}
	return &Board{mem: mem, fd: fd}, nil
}

// FD is the board's descriptor, to be inherited by workers or sent to a
// successor. It stays the Board's.
func (b *Board) FD() int { return b.fd }

// Close unmaps the board: none of its cells may be touched afterwards.
func (b *Board) Close() error {
	return errors.Join(Unmap(b.mem), closeFD(b.fd))
}

// Acceptor returns a seat's cells on itself. It and the four methods below panic
// if the seat or the ID's index is out of range (ID.Valid).
func (b *Board) Acceptor(seat int) *AcceptorCells {
	return seatCells[AcceptorCells](b, acceptorTable, seat, 0)
}

// Listener returns a seat's cells on a listener.
func (b *Board) Listener(seat int, id ID) *ListenerCells {
	return seatCells[ListenerCells](b, listenerTable, seat, id.Index())
}

// Pool returns a seat's cells on a pool.
func (b *Board) Pool(seat int, id ID) *PoolCells {
	return seatCells[PoolCells](b, poolTable, seat, id.Index())
}

// Target returns a seat's cells on a target.
func (b *Board) Target(seat int, id ID) *TargetCells {
	return seatCells[TargetCells](b, targetTable, seat, id.Index())
}

// Route returns a seat's cells on a route.
func (b *Board) Route(seat int, id ID) *RouteCells {
	return seatCells[RouteCells](b, routeTable, seat, id.Index())
}

// Held holds, by target index, how many sessions hold it over all acceptors: the
// one word that several acceptors write.
//
// Rule: TargetCells.Active, which GiveBack takes out of here, is never above an
// acceptor's part of it. So it is raised after, and lowered before. A process
// killed between the two leaves a target one session too many, rather than a
// held target that looks free.
func (b *Board) Held() []Gauge { return b.shared(heldAt) }

// Weights holds, by target index, the weight in force, in the units of pool.WeightScale; 0 = it gets no new
// sessions. Only the control plane writes it.
func (b *Board) Weights() []Gauge { return b.shared(weightsAt) }

// Weighed counts the changes of Weights: each is counted after it was made. So a picker
// that sees the same count twice need not look at all of them again.
func (b *Board) Weighed() *Counter { return &b.header().weighed }

// Speeds holds, by target index, how fast targets take connections. Acceptors whose pool
// picks by it write it.
func (b *Board) Speeds() []Speed { return unsafe.Slice(cellsAt[Speed](b, speedsAt), MaxTargets) }

// Limits holds, by target index, a Limit: how many sessions a target may have, 0 = any
// number. Only the control plane writes it. Held of a target with a limit is raised by
// compare-and-swap, so it is never above it.
func (b *Board) Limits() []Gauge { return b.shared(limitsAt) }

// Panics holds, by pool index, 1 while a pool is in panic: too few of its targets are
// healthy, and none is ejected for what sessions say. Only the control plane writes it.
func (b *Board) Panics() []Gauge { return b.shared(panicsAt)[:MaxPools] }

// Failing holds, by target index, what acceptors know of targets that did not take a
// connection. All of them write it.
func (b *Board) Failing() []Failing { return unsafe.Slice(cellsAt[Failing](b, failingAt), MaxTargets) }

// Strikes holds, by target index, what is held against targets that are picked like others.
func (b *Board) Strikes() []Strikes { return unsafe.Slice(cellsAt[Strikes](b, strikesAt), MaxTargets) }

func (b *Board) shared(at uintptr) []Gauge {
	return unsafe.Slice(cellsAt[Gauge](b, at), MaxTargets)
}

func seatCells[T any](b *Board, t table, seat int, index uint32) *T {
	if seat == retired {
		panic(fmt.Sprintf("metrics: no seat %d", seat))
	}
	return cellsAt[T](b, t.place(seat, index))
}

func (b *Board) header() *header { return cellsAt[header](b, 0) }
