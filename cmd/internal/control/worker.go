package control

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// worker is what the supervisor knows of a process and its successors. Only the
// goroutine that keeps it moves it:
//
//	            begin              run             drain
//	DEAD ───────────────► STARTING ───► RUNNING ──────────► DRAINING
//	  ▲                      │             │  hears requests    │
//	  └──────── end ─────────┴─────────────┴────────────────────┘
type worker struct {
	number int

	mu       sync.Mutex // guards what follows
	state    metrics.WorkerState
	started  time.Time
	restarts uint64
	process  *process     // nil while it is dead
	rescues  map[int]bool // the hung acceptors whose sockets it serves; a successor goes on with them
}

func (w *worker) begin(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.process, w.started = metrics.WorkerStarting, p, time.Now()
}

// tryRun makes the worker hear requests, unless there is a later Plan than the one
// it was told.
func (w *worker) tryRun(told *proxy.Plan, latest *atomic.Pointer[proxy.Plan]) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if latest.Load() != told {
		return false
	}
	w.state = metrics.WorkerRunning
	return true
}

// drain is called by the goroutine that stops the service.
func (w *worker) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == metrics.WorkerRunning {
		w.state = metrics.WorkerDraining
	}
}

func (w *worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.process = metrics.WorkerDead, nil
}

func (w *worker) countRestart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restarts++
}

func (w *worker) setRescue(hung int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.rescues[hung] = true
	} else {
		delete(w.rescues, hung)
	}
}

func (w *worker) rescued() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.rescues))
}

// current is the process; nil when it is dead.
func (w *worker) current() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process
}

// reachable is where to send requests; nil while nobody hears them.
func (w *worker) reachable() *workerConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == metrics.WorkerRunning || w.state == metrics.WorkerDraining {
		return w.process.conn
	}
	return nil
}

func (w *worker) describe() metrics.Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := metrics.Worker{Number: w.number, State: w.state, Restarts: w.restarts}
	if w.process != nil {
		m.PID, m.Started = w.process.Pid, w.started
	}
	return m
}
