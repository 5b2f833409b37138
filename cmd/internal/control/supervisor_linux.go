package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy"
)

const (
	// answerWithin bounds a request to a worker. One that is stopped or stuck must not
	// hold up the others; it finds the request when it goes on.
	answerWithin = 2 * time.Second
	// A worker that dies soon after its start is started again after 100 ms, doubling
	// to 10 s; once one has lived for steadyAfter the count begins anew.
	minRestart  = 100 * time.Millisecond
	maxRestart  = 10 * time.Second
	steadyAfter = 10 * time.Second
)

// supervisor is the host of mode "process": each acceptor in a worker process of its
// own. It holds the sockets and the board, so a worker that dies takes its running
// sessions with it and nothing else.
//
//	supervisor ──start, apply, cut, ...──► worker 0   (one socketpair each)
//	    │      ◄──done, notice───────────
//	    └ its death closes the socketpairs: the workers drain and end
type supervisor struct {
	log     *slog.Logger
	board   *metrics.Board
	options []proxy.Options // of every acceptor; the Plan in them is the one in force
	timeout time.Duration   // a worker's drain, should the supervisor die
	notices chan<- proxy.Notice
	self    string // the program to start

	stopping atomic.Bool // deaths are expected
	all      []*worker
	ended    sync.WaitGroup
}

// worker is one of the processes.
type worker struct {
	number int

	mu       sync.Mutex // guards what follows
	state    metrics.WorkerState
	pid      int
	started  time.Time
	restarts uint64
	conn     *workerConn // nil while there is no process
	plan     *proxy.Plan // what it starts with
}

func newSupervisor(log *slog.Logger, board *metrics.Board, options []proxy.Options, timeout time.Duration) *supervisor {
	s := &supervisor{
		log: log, board: board, options: options, timeout: timeout,
		notices: options[0].Notices, self: "/proc/self/exe",
	}
	for i, o := range options {
		s.all = append(s.all, &worker{number: i, state: metrics.WorkerDead, plan: o.Plan})
	}
	return s
}

// start starts every worker and keeps them alive from then on.
func (s *supervisor) start() error {
	for _, w := range s.all {
		wait, err := s.spawn(w)
		if err != nil {
			s.close()
			return err
		}
		s.ended.Go(func() { s.keep(w, wait) })
	}
	return nil
}

// spawn starts a worker and waits until it accepts. wait returns when the process
// has ended.
func (s *supervisor) spawn(w *worker) (wait func() string, err error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("worker %d: %w", w.number, err)
	}
	o := s.options[w.number]
	files := []uintptr{0, 1, 2, uintptr(theirs), uintptr(s.board.FD())}
	for _, fd := range o.Sockets {
		files = append(files, uintptr(fd))
	}
	w.set(metrics.WorkerStarting, 0, nil)
	// Not os/exec: its File.Fd would switch the sockets, which all workers share, to
	// blocking mode.
	pid, err := syscall.ForkExec(s.self, []string{"sluice", "worker", fmt.Sprint(w.number)},
		&syscall.ProcAttr{Env: os.Environ(), Files: files})
	unix.Close(theirs)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("worker %d: start: %w", w.number, err)
	}
	conn := newWorkerConn(ours, s.notices)
	w.set(metrics.WorkerStarting, pid, conn)
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("worker %d: %w", w.number, err)
	}
	wait = func() string {
		state, err := process.Wait()
		conn.close()
		if err != nil {
			return err.Error()
		}
		return state.String()
	}
	_, err = conn.ask(message{Kind: kindStart, Start: &workerStart{
		Acceptor: w.number, Acceptors: len(s.options), MaxPipes: o.MaxPipes, DrainTimeout: s.timeout, Plan: w.currentPlan(),
	}}, startWithin)
	if err != nil {
		_ = process.Kill()
		return nil, fmt.Errorf("worker %d: %w (%s)", w.number, err, wait())
	}
	w.set(metrics.WorkerRunning, pid, conn)
	return wait, nil
}

// startWithin bounds the start of a worker: a few milliseconds of work on a machine
// that may be starting everything else, too.
const startWithin = 30 * time.Second

// keep gives a worker a successor each time it dies, until the service ends.
func (s *supervisor) keep(w *worker, wait func() string) {
	pause := minRestart
	for {
		began := time.Now()
		how := wait()
		if time.Since(began) >= steadyAfter {
			pause = minRestart
		}
		lost := s.bury(w)
		if s.stopping.Load() {
			return
		}
		s.log.Error("worker died", "worker", w.number, "how", how, "lost_sessions", lost, "restart_in", pause.String())
		for {
			if !s.sleep(pause) {
				return
			}
			pause = min(2*pause, maxRestart)
			w.mu.Lock()
			w.restarts++
			w.mu.Unlock()
			var err error
			if wait, err = s.spawn(w); err == nil {
				break
			}
			s.bury(w)
			s.log.Error("worker did not start", "error", err, "restart_in", pause.String())
		}
		s.log.Info("worker restarted", "worker", w.number)
	}
}

// bury gives back what a dead worker held, and returns how many sessions it took
// with it.
func (s *supervisor) bury(w *worker) (lost uint64) {
	w.set(metrics.WorkerDead, 0, nil)
	for _, n := range s.board.GiveBack(w.number) {
		lost += n
	}
	return lost
}

// sleep waits; false if the service ends meanwhile.
func (s *supervisor) sleep(d time.Duration) bool {
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(drainStep) {
		if s.stopping.Load() {
			return false
		}
	}
	return !s.stopping.Load()
}

// askAll sends a request to every living worker at the same time and joins their
// faults.
func (s *supervisor) askAll(m message) error {
	errs := make([]error, len(s.all))
	var wg sync.WaitGroup
	for i, w := range s.all {
		if conn := w.connection(); conn != nil {
			wg.Go(func() {
				if _, err := conn.ask(m, answerWithin); err != nil {
					errs[i] = fmt.Errorf("worker %d: %w", i, err)
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *supervisor) apply(plan *proxy.Plan) error {
	for _, w := range s.all {
		w.mu.Lock()
		w.plan = plan // a successor starts with it
		w.mu.Unlock()
	}
	return s.askAll(message{Kind: kindApply, Plan: plan})
}

func (s *supervisor) stopAccepting() {
	s.stopping.Store(true) // a worker that dies now needs no successor
	for _, w := range s.all {
		w.mu.Lock()
		if w.state == metrics.WorkerRunning {
			w.state = metrics.WorkerDraining
		}
		w.mu.Unlock()
	}
	s.tell(message{Kind: kindStopAccepting})
}

func (s *supervisor) cut(reason metrics.Reason) { s.tell(message{Kind: kindCut, Reason: reason}) }

// tell is askAll where a fault is only worth a line: the worker is dying or stuck,
// and close will end it.
func (s *supervisor) tell(m message) {
	if err := s.askAll(m); err != nil {
		s.log.Warn("worker does not answer", "request", m.Kind, "error", err)
	}
}

func (s *supervisor) find(source netip.AddrPort) (int, bool) {
	for i, w := range s.all {
		if conn := w.connection(); conn != nil {
			if m, err := conn.ask(message{Kind: kindFind, Source: source}, answerWithin); err == nil && m.Found {
				return i, true
			}
		}
	}
	return 0, false
}

// close ends every worker; one that does not answer is killed.
func (s *supervisor) close() {
	s.stopping.Store(true)
	s.tell(message{Kind: kindClose})
	done := make(chan struct{})
	go func() { s.ended.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(answerWithin):
	}
	for _, w := range s.all {
		w.mu.Lock()
		if w.pid != 0 {
			_ = syscall.Kill(w.pid, syscall.SIGKILL)
		}
		w.mu.Unlock()
	}
	<-done
}

func (s *supervisor) workers() []metrics.Worker {
	var out []metrics.Worker
	for _, w := range s.all {
		w.mu.Lock()
		m := metrics.Worker{Number: w.number, State: w.state, PID: w.pid, Restarts: w.restarts, Started: w.started}
		w.mu.Unlock()
		if m.PID != 0 {
			readProcess(&m)
		}
		out = append(out, m)
	}
	return out
}

func (s *supervisor) placement() []metrics.Acceptor {
	placed := make([]metrics.Acceptor, len(s.all))
	for i := range placed {
		placed[i] = metrics.Acceptor{Number: i, Worker: i}
	}
	return placed
}

func (w *worker) set(state metrics.WorkerState, pid int, conn *workerConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.pid, w.conn = state, pid, conn
	if state == metrics.WorkerRunning {
		w.started = time.Now()
	}
}

func (w *worker) connection() *workerConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conn
}

func (w *worker) currentPlan() *proxy.Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plan
}

// socketpair returns our end as a connection and the worker's as a descriptor.
func socketpair() (ours net.Conn, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), "worker")
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		unix.Close(fds[1])
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	return ours, fds[1], nil
}
