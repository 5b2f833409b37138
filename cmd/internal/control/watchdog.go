package control

import (
	"log/slog"
	"sync"
	"time"

	"sluice/metrics"
)

// watchdog finds acceptors that do not turn, and has a sibling accept from their
// sockets until they do: nobody waits behind a hung one. With a BPF program the
// kernel picks it no more by itself; what it was given before, and what the hash
// still gives it, is served all the same.
type watchdog struct {
	log       *slog.Logger
	host      host
	cells     []*metrics.AcceptorCells // by acceptor
	hangAfter time.Duration

	mu    sync.Mutex // guards what follows
	seats []watched  // by acceptor
}

type watched struct {
	hung    bool
	hangs   uint64
	rescuer int // who serves its sockets; -1 = nobody
}

func newWatchdog(log *slog.Logger, h host, cells []*metrics.AcceptorCells, hangAfter time.Duration) *watchdog {
	w := &watchdog{log: log, host: h, cells: cells, hangAfter: hangAfter, seats: make([]watched, len(cells))}
	for i := range w.seats {
		w.seats[i].rescuer = -1
	}
	return w
}

// run looks four times per hangAfter until stop is closed.
func (w *watchdog) run(stop <-chan struct{}) {
	tick := time.NewTicker(w.hangAfter / 4)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.look(monotonic())
		}
	}
}

func (w *watchdog) look(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.seats {
		s := &w.seats[i]
		age := time.Duration(now - w.cells[i].Heartbeat.Load())
		switch hung := age > w.hangAfter; {
		case hung && !s.hung:
			s.hung = true
			s.hangs++
			w.log.Warn("acceptor hangs: it takes nothing new, a sibling serves what waits for it", "acceptor", i)
		case !hung && s.hung:
			s.hung = false
			w.log.Info("acceptor turns again", "acceptor", i)
			if s.rescuer >= 0 {
				w.host.rescue(s.rescuer, i, false)
				s.rescuer = -1
			}
		}
	}
	// All verdicts first: a rescuer must not be one that hangs itself.
	for i := range w.seats {
		s := &w.seats[i]
		if !s.hung || s.rescuer >= 0 && !w.seats[s.rescuer].hung {
			continue
		}
		if s.rescuer >= 0 { // it hears of it when it turns again
			w.host.rescue(s.rescuer, i, false)
		}
		if s.rescuer = w.idlest(); s.rescuer >= 0 {
			w.host.rescue(s.rescuer, i, true)
		}
	}
}

// idlest is the acceptor with the fewest sessions among those that turn; -1 = none.
func (w *watchdog) idlest() int {
	best, least := -1, int64(0)
	for i, s := range w.seats {
		if n := w.cells[i].Sessions.Load(); !s.hung && (best < 0 || n < least) {
			best, least = i, n
		}
	}
	return best
}

// health is the verdict on every acceptor.
func (w *watchdog) health() map[int]metrics.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[int]metrics.Health{}
	for i, s := range w.seats {
		out[i] = metrics.Health{Hung: s.hung, Hangs: s.hangs}
	}
	return out
}
