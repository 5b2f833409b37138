package metrics

// PoolQueue is a line of sessions, of all acceptors of a service, that wait for a place at
// a backend of a pool. Each takes a ticket; of those that wait, only the one with the
// first ticket may take a place.
//
//	         head                     tail
//	          ▼                        ▼
//	· gone · waiting(3) · gone · waiting(0) · free
//
// It is a ring of words in shared memory. A place in it is claimed by one compare-and-swap,
// and an acceptor that finds head or tail behind pushes them on. So a process that dies
// between any two instructions leaves nothing that others could not go past (after the
// bounded queue of Michael and Scott, PODC 1996, in an array). GiveBack takes the dead
// one's sessions out.
type PoolQueue struct {
	head Counter // the ticket whose turn it is; those before it are over
	_    [7]uint64
	tail Counter // the next ticket to be given
	_    [7]uint64
	ring [QueuePlaces]Counter // by ticket: ticket + 1 │ state, 2 bits │ seat, 6 bits
}

// QueuePlaces bounds how many tickets may be out: those that wait, and those behind the
// first of them that have gone. MaxQueue is the longest queue that may be configured.
const (
	QueuePlaces = 8192
	MaxQueue    = QueuePlaces / 2
)

const (
	queueWaits = 1 << 6
	queueGone  = 2 << 6
	queueState = 3 << 6
	queueSeat  = 1<<6 - 1
)

// Join gives a session of a seat its ticket; false = no place is left.
func (q *PoolQueue) Join(seat int) (ticket uint64, ok bool) {
	for range 2 * QueuePlaces { // others get on if not this one; and what is written at random ends
		t, h := q.tail.Load(), q.head.Load()
		if h > t { // it moved in between
			continue
		}
		if t-h >= QueuePlaces {
			return 0, false
		}
		at := &q.ring[t%QueuePlaces]
		word := at.Load()
		switch {
		case word>>8 == t+1: // claimed by one that has not said so yet
			q.tail.CompareAndSwap(t, t+1)
		case word>>8 < t+1 && at.CompareAndSwap(word, (t+1)<<8|queueWaits|uint64(seat)&queueSeat):
			q.tail.CompareAndSwap(t, t+1)
			return t, true
		}
	}
	return 0, false
}

// Leave ends a ticket, whether its session got a place or went.
func (q *PoolQueue) Leave(ticket uint64) {
	at := &q.ring[ticket%QueuePlaces]
	if word := at.Load(); word>>8 == ticket+1 && word&queueState == queueWaits {
		at.CompareAndSwap(word, word&^queueState|queueGone)
	}
}

// Waits says whether a ticket is still in the queue. One whose acceptor hung was passed over.
func (q *PoolQueue) Waits(ticket uint64) bool {
	word := q.ring[ticket%QueuePlaces].Load()
	return word>>8 == ticket+1 && word&queueState == queueWaits
}

// First is the ticket whose turn it is, and the seat of its session; ok = false: none
// waits. Those of seats that hang are passed over: they end.
func (q *PoolQueue) First(hangs func(seat int) bool) (ticket uint64, seat int, ok bool) {
	for range 2 * QueuePlaces {
		h := q.head.Load()
		if h >= q.tail.Load() {
			return 0, 0, false
		}
		at := &q.ring[h%QueuePlaces]
		word := at.Load()
		if seat = int(word & queueSeat); word>>8 == h+1 && word&queueState == queueWaits {
			if !hangs(seat) {
				return h, seat, true
			}
			if !at.CompareAndSwap(word, word&^queueState|queueGone) {
				continue
			}
		}
		q.head.CompareAndSwap(h, h+1)
	}
	return 0, 0, false
}

// Empty says that no session waits. It may be wrong in saying that one does: see First.
func (q *PoolQueue) Empty() bool { return q.head.Load() >= q.tail.Load() }

// giveBack ends the tickets of a seat.
func (q *PoolQueue) giveBack(seat int) {
	for i := range q.ring {
		at := &q.ring[i]
		if word := at.Load(); word&queueState == queueWaits && int(word&queueSeat) == seat {
			at.CompareAndSwap(word, word&^queueState|queueGone)
		}
	}
}

// PoolQueue returns a pool's queue. To look at it costs memory, so that is for pools that have one.
func (b *Board) PoolQueue(id ID) *PoolQueue {
	poolTable.place(0, id.Index()) // panics if it is out of range
	return cellsAt[PoolQueue](b, queueAt(id.Index()))
}

func queueAt(index uint32) uintptr { return queuesAt + uintptr(index)*queueStride }

// touchedQueues are those of which a page was touched.
func (b *Board) touchedQueues(yield func(index uint32, q *PoolQueue) bool) {
	next := uint32(0)
	for from, to := range b.runs(queuesAt, MaxPools*queueStride) {
		first := max(next, uint32((from-queuesAt)/queueStride))
		for next = first; next < MaxPools && queueAt(next) < to; next++ {
			if !yield(next, cellsAt[PoolQueue](b, queueAt(next))) {
				return
			}
		}
	}
}

// clearQueue makes a queue as it was before it was touched.
func (b *Board) clearQueue(index uint32) {
	at := queueAt(index)
	for from, to := range b.runs(at, queueStride) {
		zero(b.words(from, to-from))
	}
}
