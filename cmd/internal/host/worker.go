package host

import (
	"time"

	"sluice/metrics"
)

// worker is what the supervisor knows of a seat's process and its successors. All but
// what never changes is guarded by the supervisor's mutex. Its state follows from what
// is known:
//
//	          process              told what is in force          its seat, or all listeners, leave
//	DEAD ───────────────► STARTING ───────────────────► RUNNING ─────────────► DRAINING
//	  ▲                      │                             │                      │
//	  └──── buried ──────────┴─────────────────────────────┴──────────────────────┘
type worker struct {
	seat  int
	birth uint64        // tells it from others that have had the seat
	wake  chan struct{} // there may be something to tell
	stop  chan struct{} // closed when it gets no successor any more
	ended chan struct{} // closed when its last process is buried

	kept    bool // keep runs
	served  bool // its seat is or was in a Plan in force
	leaving bool // stop is closed

	process   *process // nil while it is dead
	started   time.Time
	restarts  uint64
	told      told
	diedOf    *edition    // that was prepared while a process died on the way to it
	silent    bool        // it owes an answer, for longer than answerWithin
	questions []*question // that it has not answered yet
	surveys   []*message  // that it has not been asked yet
}

// wakeUp has its brief look again what there is to tell.
func (w *worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default: // it is about to look
	}
}

// dismissLocked has the process end, and lets it have no successor.
func (w *worker) dismissLocked() {
	if !w.leaving {
		w.leaving = true
		close(w.stop)
		w.wakeUp()
	}
}

func (w *worker) killLocked() {
	if w.process != nil {
		_ = w.process.Kill()
	}
}

// isWellLocked says whether an answer may be hoped for.
func (w *worker) isWellLocked(b *metrics.Board) bool {
	return w.process != nil && w.told.inForce != nil && !w.silent && b.Acceptor(w.seat).Hung.Load() == 0
}

func (w *worker) describeLocked(inForce *edition) metrics.Worker {
	m := metrics.Worker{Number: w.seat, Restarts: w.restarts, State: metrics.WorkerDead}
	if w.process == nil {
		return m
	}
	m.PID, m.Started = w.process.Pid, w.started
	switch {
	case w.told.inForce == nil:
		m.State = metrics.WorkerStarting
	case w.leaving || inForce.leaves(w.seat):
		m.State = metrics.WorkerDraining
	default:
		m.State = metrics.WorkerRunning
	}
	return m
}
