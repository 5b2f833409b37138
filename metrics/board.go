package metrics

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Board is the shared memory of a service: a log of records that only grows,
// each a series' name followed by its cells.
//
//	header │ record: names, cells │ record: names, cells │ ... │ untouched
//	  └─ end ──────────────────────────────────────────────────►
//
// A record is written whole before end moves past it, so a reader in another
// process never sees half a one. Records and cells start on cache lines.
// One process at a time appends, the owner; any number read and write cells.
// The methods are safe for concurrent use.
type Board struct {
	mem   []byte // the mapping
	fd    int
	owner uint64 // this process appends while it equals the header's owner

	mu      sync.Mutex
	index   map[key]uint64 // where a series' cells are, for the records up to indexed
	indexed uint64
}

// ErrNoCells says that a series has no cells and that this process may not make them.
var ErrNoCells = errors.New("no cells on the board")

// errNotBoard says that a descriptor is something else than a board of this version.
var errNotBoard = errors.New("not a board")

const (
	boardMagic = 0x64726f6265636c73 // any number that memory does not hold by chance

	// layoutVersion changes whenever cells of an older process would be
	// misread: fields moved, an enum grown. A field that takes the place of
	// padding keeps it, for it reads as zero until somebody writes it.
	layoutVersion = 1

	// boardSize bounds the series of a service's life. Memory is spent on what
	// is touched only. 64 acceptors with 20 listeners and 1,000 backends take
	// 64 x (20 x 640 + 1,000 x 320) bytes = 20 MiB, so a third of the board.
	boardSize = 64 << 20

	cacheLine = 64
	maxName   = 255 // bytes
)

// header is the first cache line of the board.
type header struct {
	magic   uint64
	version uint64
	size    uint64
	owner   atomic.Uint64 // counts owners; the last one appends
	end     atomic.Uint64 // offset behind the last whole record
	_       [3]uint64
}

// record heads each series. The pool's and the series' names follow it; the
// cells begin on the next cache line after them.
type record struct {
	length   uint32 // of the whole record, a multiple of cacheLine
	cells    uint32 // from the record's start to the cells
	acceptor int64
	kind     kind
	pool     uint8 // lengths of the names
	name     uint8
}

type kind uint8

const (
	kindListener kind = iota + 1
	kindBackend
	kindPool
	kindAcceptor
)

// Series names the cells of one acceptor on one thing.
type Series struct {
	Acceptor int
	Pool     string // of a backend; "" otherwise
	Name     string // of the listener, backend or pool; "" for the acceptor itself
}

type key struct {
	kind kind
	Series
}

func (k key) String() string {
	switch k.kind {
	case kindListener:
		return fmt.Sprintf("listener %q, acceptor %d", k.Name, k.Acceptor)
	case kindBackend:
		return fmt.Sprintf("backend %q of pool %q, acceptor %d", k.Name, k.Pool, k.Acceptor)
	case kindPool:
		return fmt.Sprintf("pool %q, acceptor %d", k.Name, k.Acceptor)
	default:
		return fmt.Sprintf("acceptor %d", k.Acceptor)
	}
}

// NewBoard makes an empty board, owned by this process. The caller closes it.
func NewBoard() (*Board, error) {
	fd, err := createBoardFile(boardSize)
	if err != nil {
		return nil, fmt.Errorf("create board: %w", err)
	}
	b, err := mapBoard(fd)
	if err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("create board: %w", err)
	}
	h := b.header()
	h.magic, h.version, h.size = boardMagic, layoutVersion, boardSize
	h.end.Store(cacheLine)
	b.TakeOver()
	return b, nil
}

// OpenBoard maps the board behind fd, which is the Board's from then on (not if
// it fails) and becomes close-on-exec. It finds cells and does not make them.
func OpenBoard(fd int) (*Board, error) {
	size, err := fileSize(fd)
	if err != nil {
		return nil, fmt.Errorf("open board on descriptor %d: %w", fd, err)
	}
	if size != boardSize { // a smaller one must not be touched behind its end
		return nil, fmt.Errorf("open board on descriptor %d: %w: %d bytes, want %d", fd, errNotBoard, size, boardSize)
	}
	b, err := mapBoard(fd)
	if err != nil {
		return nil, fmt.Errorf("open board on descriptor %d: %w", fd, err)
	}
	if err := b.header().check(); err != nil {
		unmap(b.mem)
		return nil, fmt.Errorf("open board on descriptor %d: %w", fd, err)
	}
	return b, nil
}

func (h *header) check() error {
	switch end := h.end.Load(); {
	case h.magic != boardMagic:
		return fmt.Errorf("%w: wrong magic number", errNotBoard)
	case h.version != layoutVersion:
		return fmt.Errorf("%w of this version: layout %d, want %d", errNotBoard, h.version, layoutVersion)
	case h.size != boardSize || end < cacheLine || end > boardSize:
		return fmt.Errorf("%w: damaged header", errNotBoard)
	}
	return nil
}

func mapBoard(fd int) (*Board, error) {
	mem, err := mapShared(fd, boardSize)
	if err != nil {
		return nil, err
	}
	return &Board{mem: mem, fd: fd, index: map[key]uint64{}, indexed: cacheLine}, nil
}

// TakeOver makes this process the owner: a successor calls it once its
// predecessor has stopped appending, whose appends are refused from then on.
func (b *Board) TakeOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owner = b.header().owner.Add(1)
}

// FD is the board's descriptor, to be inherited by workers or sent to a
// successor. It stays the Board's.
func (b *Board) FD() int { return b.fd }

// Close unmaps the board: none of its cells may be touched afterwards.
func (b *Board) Close() error {
	return errors.Join(unmap(b.mem), closeFD(b.fd))
}

// Listener returns an acceptor's cells on a listener. Like the three methods
// below it makes them when it is the owner who asks for the first time; anybody
// else gets ErrNoCells then.
func (b *Board) Listener(name string, acceptor int) (*ListenerCells, error) {
	return cellsOf[ListenerCells](b, kindListener, Series{Name: name, Acceptor: acceptor})
}

// Backend returns an acceptor's cells on a backend of a pool.
func (b *Board) Backend(pool, backend string, acceptor int) (*BackendCells, error) {
	return cellsOf[BackendCells](b, kindBackend, Series{Pool: pool, Name: backend, Acceptor: acceptor})
}

// Pool returns an acceptor's cells on a pool.
func (b *Board) Pool(pool string, acceptor int) (*PoolCells, error) {
	return cellsOf[PoolCells](b, kindPool, Series{Name: pool, Acceptor: acceptor})
}

// Acceptor returns an acceptor's cells on itself.
func (b *Board) Acceptor(acceptor int) (*AcceptorCells, error) {
	return cellsOf[AcceptorCells](b, kindAcceptor, Series{Acceptor: acceptor})
}

// Listeners goes through all listeners' cells, in the order they were made,
// without a lock and while the owner appends. So do the three methods below.
func (b *Board) Listeners() iter.Seq2[Series, *ListenerCells] {
	return each[ListenerCells](b, kindListener)
}

// Backends goes through all backends' cells.
func (b *Board) Backends() iter.Seq2[Series, *BackendCells] {
	return each[BackendCells](b, kindBackend)
}

// Pools goes through all pools' cells.
func (b *Board) Pools() iter.Seq2[Series, *PoolCells] { return each[PoolCells](b, kindPool) }

// Acceptors goes through all acceptors' cells.
func (b *Board) Acceptors() iter.Seq2[Series, *AcceptorCells] {
	return each[AcceptorCells](b, kindAcceptor)
}

func cellsOf[T any](b *Board, k kind, s Series) (*T, error) {
	at, err := b.findOrAppend(key{k, s}, int(unsafe.Sizeof(*new(T))))
	if err != nil {
		return nil, fmt.Errorf("cells of %s: %w", key{k, s}, err)
	}
	return cellsAt[T](b, at), nil
}

func each[T any](b *Board, k kind) iter.Seq2[Series, *T] {
	return func(yield func(Series, *T) bool) {
		end := b.header().end.Load()
		for at := uint64(cacheLine); at < end; {
			r := b.recordAt(at)
			if r.kind == k && !yield(b.series(at), cellsAt[T](b, at+uint64(r.cells))) {
				return
			}
			at += uint64(r.length)
		}
	}
}

// findOrAppend returns the offset of a series' cells, of the given size.
func (b *Board) findOrAppend(k key, size int) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.indexLocked()
	if at, ok := b.index[k]; ok {
		return at, nil
	}
	if b.owner != b.header().owner.Load() {
		return 0, ErrNoCells
	}
	if err := b.appendLocked(k, size); err != nil {
		return 0, err
	}
	b.indexLocked()
	return b.index[k], nil
}

// indexLocked takes in the records that were appended since it last ran.
func (b *Board) indexLocked() {
	end := b.header().end.Load()
	for b.indexed < end {
		r := b.recordAt(b.indexed)
		b.index[key{r.kind, b.series(b.indexed)}] = b.indexed + uint64(r.cells)
		b.indexed += uint64(r.length)
	}
}

func (b *Board) appendLocked(k key, size int) error {
	if len(k.Pool) > maxName || len(k.Name) > maxName {
		return fmt.Errorf("a name of %d bytes, at most %d", max(len(k.Pool), len(k.Name)), maxName)
	}
	names := int(unsafe.Sizeof(record{}))
	cells := (names + len(k.Pool) + len(k.Name) + cacheLine - 1) &^ (cacheLine - 1)
	length := cells + size
	end := b.header().end.Load()
	if end+uint64(length) > boardSize {
		return fmt.Errorf("board full: %d of %d bytes used by the series of this service's life", end, boardSize)
	}
	*b.recordAt(end) = record{
		length: uint32(length), cells: uint32(cells), acceptor: int64(k.Acceptor),
		kind: k.kind, pool: uint8(len(k.Pool)), name: uint8(len(k.Name)),
	}
	n := copy(b.mem[end+uint64(names):], k.Pool)
	copy(b.mem[end+uint64(names+n):], k.Name)
	b.header().end.Store(end + uint64(length)) // here it goes live
	return nil
}

func (b *Board) header() *header            { return (*header)(unsafe.Pointer(&b.mem[0])) }
func (b *Board) recordAt(at uint64) *record { return (*record)(unsafe.Pointer(&b.mem[at])) }
func cellsAt[T any](b *Board, at uint64) *T { return (*T)(unsafe.Pointer(&b.mem[at])) }

func (b *Board) series(at uint64) Series {
	r := b.recordAt(at)
	names := b.mem[at+uint64(unsafe.Sizeof(*r)):][:int(r.pool)+int(r.name)]
	return Series{Acceptor: int(r.acceptor), Pool: string(names[:r.pool]), Name: string(names[r.pool:])}
}
