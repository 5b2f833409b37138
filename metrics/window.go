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
// It costs one map of listeners x acceptors per tick within AcceptWindow: 60 x 64
// entries for 4 listeners on 16 acceptors at one tick a second. A slower tick
// makes it cheaper and the window's edge coarser.
type Window struct {
	mu      sync.Mutex
	samples []sample // oldest first; at most the first is older than AcceptWindow
}

type sample struct {
	at       time.Time
	accepted map[Series]uint64
}

// Sample takes the board's accepted counters as they are at now.
func (w *Window) Sample(b *Board, now time.Time) {
	accepted := map[Series]uint64{}
	for s, c := range b.Listeners() {
		accepted[s] = c.Accepted.Load()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, sample{now, accepted})
	for len(w.samples) > 1 && now.Sub(w.samples[1].at) >= AcceptWindow {
		w.samples = w.samples[1:]
	}
}

// start returns when the window that ends at now began, and the counters of then:
// a series that was not there counts from 0. Without a sample they are nil, and
// the window is empty.
func (w *Window) start(now time.Time) (time.Time, map[Series]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.samples) == 0 {
		return now, nil
	}
	first := w.samples[0]
	for _, s := range w.samples[1:] {
		if now.Sub(s.at) >= AcceptWindow {
			first = s
		}
	}
	return first.at, first.accepted
}
