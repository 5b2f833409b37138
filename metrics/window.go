package metrics

import (
	"sync"
	"time"
)

// AcceptWindow is how far back the balance of accepts looks. Long enough that a
// fair hash looks fair at 20 connections a second (1,200 accepts on 4 acceptors:
// 5 % variation by chance), short enough to see a change while watching.
const AcceptWindow = time.Minute

// Window remembers the accepted counters of the last minute. The control plane
// feeds it at each tick, snapshots read it; both may do so at any time.
// Its zero value is ready, and is a window in which nothing was accepted.
//
// It costs a counter for each listener and acceptor per tick within AcceptWindow:
// 60 x 64 x 8 B = 30 KiB for 4 listeners on 16 acceptors at one tick a second. A
// slower tick makes it cheaper and the window's edge coarser.
type Window struct {
	mu      sync.Mutex
	samples []sample // oldest first; at most the first is older than AcceptWindow
}

// sample is a table with a row for each listener and a column for each seat.
type sample struct {
	at       time.Time
	rows     []row                // by the listener's index
	column   [MaxAcceptors]int8   // 1 is the first; 0 = the seat was not there
	lives    [MaxAcceptors]uint64 // of the seats
	accepted []uint64             // row by row
}

type row struct {
	id    ID
	start int // in accepted, plus one; 0 = no such listener
}

// Sample takes the accepted counters of these listeners and seats as they are at
// now. One of none, before a service is live, begins a window that misses no accept.
func (w *Window) Sample(b *Board, listeners []ID, seats []int, now time.Time) {
	s := b.sample(listeners, seats)
	s.at = now
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, s)
	for len(w.samples) > 1 && now.Sub(w.samples[1].at) >= AcceptWindow {
		w.samples = w.samples[1:]
	}
}

func (b *Board) sample(listeners []ID, seats []int) sample {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := sample{lives: b.lives, accepted: make([]uint64, len(listeners)*len(seats))}
	for i, id := range listeners {
		for len(s.rows) <= int(id.Index()) {
			s.rows = append(s.rows, row{})
		}
		s.rows[id.Index()] = row{id, 1 + i*len(seats)}
	}
	for j, seat := range seats {
		s.column[seat] = int8(1 + j)
		v := b.view(seat)
		for i, id := range listeners {
			if c := cellsOf[ListenerCells](v, listenerTable, id.Index()); c != nil {
				s.accepted[i*len(seats)+j] = c.Accepted.Load()
			}
		}
	}
	return s
}

// before returns what a counter stood at: 0 for a listener or an acceptor that was
// not there, or is another now under the same number.
func (s *sample) before(id ID, seat int, life uint64) uint64 {
	if int(id.Index()) >= len(s.rows) {
		return 0
	}
	r := s.rows[id.Index()]
	if r.start == 0 || r.id != id || s.column[seat] == 0 || s.lives[seat] != life {
		return 0
	}
	return s.accepted[r.start-1+int(s.column[seat])-1]
}

// start returns the counters of when the window that ends at now began, nil
// without a sample: the window is empty then.
func (w *Window) start(now time.Time) *sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.samples) == 0 {
		return nil
	}
	first := w.samples[0]
	for _, s := range w.samples[1:] {
		if now.Sub(s.at) >= AcceptWindow {
			first = s
		}
	}
	return &first
}
