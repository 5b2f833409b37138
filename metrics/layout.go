package metrics

import (
	"fmt"
	"unsafe"
)

// Where everything lies on the board:
//
//	header │ Held │ Weights │ Failing │ Strikes │ Speeds │ Limits │ Panics │ queues │ stripe 0 │ stripe 1 │ ... │ stripe 63 │ retired │ sources.go
//	              by target index                                      by pool            │
//	         ┌────────────────────────────────────────────────────────────────────────────┘
//	         ▼
//	       AcceptorCells │ ListenerCells x 4,096 │ PoolCells x 4,096 │ TargetCells x 65,536 │ RouteCells x 32,768
//
// A stripe belongs to a seat; the last one sums up the seats that have left. Cells
// lie within one page: 4 listeners, 16 pools, 12 targets or 128 routes in each, and a bit of
// room behind them. AcceptorCells lie in the room before the first 4 listeners.
//
// Invariant: a place is worked out from the kind, the index and the stripe, all
// three checked against the constants below, and never from what is read on the
// board. So whatever a worker writes, the owner stays within the mapping.
const (
	MaxAcceptors = 64
	MaxListeners = 4096
	MaxPools     = 4096
	MaxTargets   = 65536
	MaxRoutes    = 32768 // those of all listeners, twice: a reload may replace them all

	stripes = MaxAcceptors + 1
	retired = MaxAcceptors // the stripe of the seats that have left

	// A stripe starts on a page, so that a worker touches only its own: 64 KiB is
	// the largest page of any Linux that Go runs on.
	pageAlign = 64 << 10

	headerSize = unsafe.Sizeof(header{})
	heldAt     = (headerSize + pageAlign - 1) &^ (pageAlign - 1)
	weightsAt  = heldAt + MaxTargets*unsafe.Sizeof(Gauge{})
	failingAt  = weightsAt + MaxTargets*unsafe.Sizeof(Gauge{})
	strikesAt  = failingAt + MaxTargets*unsafe.Sizeof(Failing{})
	speedsAt   = strikesAt + MaxTargets*unsafe.Sizeof(Strikes{})
	limitsAt   = speedsAt + MaxTargets*unsafe.Sizeof(Speed{})
	panicsAt   = limitsAt + MaxTargets*unsafe.Sizeof(Gauge{})
	queuesAt   = panicsAt + MaxPools*unsafe.Sizeof(Gauge{})
	stripesAt  = (queuesAt + MaxPools*queueStride + pageAlign - 1) &^ (pageAlign - 1)

	queueStride = (unsafe.Sizeof(PoolQueue{}) + pageUnit - 1) &^ (pageUnit - 1)

	acceptorSize = unsafe.Sizeof(AcceptorCells{})
	listenerSize = unsafe.Sizeof(ListenerCells{})
	poolSize     = unsafe.Sizeof(PoolCells{})
	targetSize   = unsafe.Sizeof(TargetCells{})
	routeSize    = unsafe.Sizeof(RouteCells{})

	pageUnit         = 4096 // the smallest page there is
	listenersPerPage = (pageUnit - acceptorSize) / listenerSize
	poolsPerPage     = pageUnit / poolSize
	targetsPerPage   = pageUnit / targetSize
	routesPerPage    = pageUnit / routeSize

	acceptorAt  = 0 // from the stripe's start, as are the four below
	listenersAt = acceptorSize
	poolsAt     = (MaxListeners + listenersPerPage - 1) / listenersPerPage * pageUnit
	targetsAt   = poolsAt + (MaxPools+poolsPerPage-1)/poolsPerPage*pageUnit
	targetsEnd  = targetsAt + (MaxTargets+targetsPerPage-1)/targetsPerPage*pageUnit
	routesAt    = targetsEnd
	routesEnd   = routesAt + (MaxRoutes+routesPerPage-1)/routesPerPage*pageUnit
	// (1,024 + 256 + 5,462 + 256) pages = 27.3 MiB
	stripeSize = (routesEnd + pageAlign - 1) &^ (pageAlign - 1)

	// 2.0 GiB of addresses. Memory is spent on the pages that were touched only.
	boardSize = (sourcesEnd + pageAlign - 1) &^ (pageAlign - 1)
)

// table is where a stripe keeps its cells of one kind.
type table struct {
	name    string
	at      uintptr // of the first, from the stripe's start
	size    uintptr // of one thing's cells
	perPage uintptr
	places  uint32
}

var (
	acceptorTable = table{"acceptor", acceptorAt, acceptorSize, 1, 1}
	listenerTable = table{"listener", listenersAt, listenerSize, listenersPerPage, MaxListeners}
	poolTable     = table{"pool", poolsAt, poolSize, poolsPerPage, MaxPools}
	targetTable   = table{"target", targetsAt, targetSize, targetsPerPage, MaxTargets}
	routeTable    = table{"route", routesAt, routeSize, routesPerPage, MaxRoutes}
)

// place returns the offset of cells on the board. A stripe or an index that is
// out of range is a fault of the caller, and panics.
func (t table) place(stripe int, index uint32) uintptr {
	if stripe < 0 || stripe >= stripes || index >= t.places {
		panic(fmt.Sprintf("metrics: no cells of %s %d in stripe %d of the board", t.name, index, stripe))
	}
	page, slot := uintptr(index)/t.perPage, uintptr(index)%t.perPage
	return stripesAt + uintptr(stripe)*stripeSize + t.at + page*pageUnit + slot*t.size
}

func cellsAt[T any](b *Board, at uintptr) *T { return (*T)(unsafe.Pointer(&b.mem[at])) }

// words are a part of the board as 8-byte words, which others may write.
func (b *Board) words(at, size uintptr) []uint64 {
	return unsafe.Slice(cellsAt[uint64](b, at), size/8)
}
