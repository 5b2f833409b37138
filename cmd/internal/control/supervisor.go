package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

const (
	// startWithin bounds the start of a worker: a few milliseconds of work, on a
	// machine that may be starting everything else, too.
	startWithin = 30 * time.Second
	// answerWithin bounds a request to a worker, and its end. One that is stopped or
	// stuck must not hold up the others; it finds the request when it goes on.
	answerWithin = 2 * time.Second
)

// supervisor is the host of mode "process": each acceptor in a worker process of its
// own. It holds the sockets and the board, so a worker that dies takes its running
// sessions with it and nothing else.
//
//	supervisor ──start, start_accepting, apply, ...──► worker 0   (one socketpair each)
//	    │      ◄──done, notice────────────────────────
//	    └ its death closes the socketpairs: the workers drain and end
type supervisor struct {
	log     *slog.Logger
	board   *metrics.Board
	rows    []*steering.Rows // by listener
	options []proxy.Options  // of every acceptor; the Plan in force is plan
	plan    atomic.Pointer[proxy.Plan]
	timeout time.Duration // a worker's drain, should the supervisor die
	notices chan<- proxy.Notice
	reaper  *reaper

	live     atomic.Bool   // the sockets are listening: a worker accepts from its start
	leaving  atomic.Bool   // and have been quiesced
	stopping chan struct{} // closed by stop: workers that die get no successor
	stop     func()
	all      []*worker
	kept     sync.WaitGroup
}

func newSupervisor(log *slog.Logger, board *metrics.Board, rows []*steering.Rows, options []proxy.Options, timeout time.Duration, r *reaper) *supervisor {
	keepDescriptors()
	stopping := make(chan struct{})
	s := &supervisor{
		log: log, board: board, rows: rows, options: options, timeout: timeout, notices: options[0].Notices, reaper: r,
		stopping: stopping, stop: sync.OnceFunc(func() { close(stopping) }),
	}
	s.plan.Store(options[0].Plan)
	for i := range options {
		s.all = append(s.all, &worker{number: i, state: metrics.WorkerDead, rescues: map[int]bool{}})
	}
	return s
}

// start starts every worker and keeps them alive from then on.
func (s *supervisor) start() error {
	for _, w := range s.all {
		if err := s.spawn(w); err != nil {
			s.abandon()
			return err
		}
	}
	for _, w := range s.all {
		s.kept.Go(func() { s.keep(w) })
	}
	return nil
}

// abandon ends the workers of a start that failed.
func (s *supervisor) abandon() {
	s.kill(everyone)
	for _, w := range s.all {
		if w.current() != nil {
			s.bury(w)
		}
	}
}

func (s *supervisor) startAccepting() error {
	s.live.Store(true)
	return s.askAll(message{Kind: kindStartAccepting})
}

// spawn starts a worker. From then on it hears what all workers are told; what they
// were told meanwhile it is told here.
func (s *supervisor) spawn(w *worker) error {
	o := &s.options[w.number]
	p, err := s.launch(o)
	if err != nil {
		return fmt.Errorf("worker %d: %w", w.number, err)
	}
	w.begin(p)
	told := s.plan.Load()
	start := &workerStart{
		Acceptor: o.ID, Acceptors: o.Acceptors, MaxPipes: o.MaxPipes, DrainTimeout: s.timeout, Beat: o.Beat, Batch: o.Batch, CPUs: o.CPUs, Plan: told,
	}
	for _, g := range o.Groups {
		start.Picked = append(start.Picked, g.Picked)
		start.HandOff = append(start.HandOff, g.HandOff)
	}
	_, err = p.conn.ask(message{Kind: kindStart, Start: start}, startWithin)
	for err == nil && !w.tryRun(told, &s.plan) {
		told = s.plan.Load()
		_, err = p.conn.ask(message{Kind: kindApply, Plan: told}, answerWithin)
	}
	// What follows it may have heard by itself, and then hears twice.
	for _, hung := range w.rescued() {
		if err == nil {
			_, err = p.conn.ask(message{Kind: kindRescue, Hung: hung, On: true}, answerWithin)
		}
	}
	for _, now := range []struct {
		is   func() bool
		kind messageKind
	}{
		{s.leaving.Load, kindLeave},
		{s.live.Load, kindStartAccepting},
		{s.isStopping, kindStopAccepting},
	} {
		if err == nil && now.is() {
			_, err = p.conn.ask(message{Kind: now.kind}, answerWithin)
		}
	}
	if err != nil {
		_ = p.Kill()
		how, _ := s.bury(w)
		return fmt.Errorf("worker %d: %w (%s)", w.number, err, how)
	}
	return nil
}

// bury waits for a worker's end and gives back what it held. It returns how it ended
// and how many sessions it took with it.
func (s *supervisor) bury(w *worker) (how string, lost uint64) {
	p := w.current()
	how = s.reaper.wait(p.Process)
	p.conn.close()
	for _, n := range s.board.GiveBack(w.number) {
		lost += n
	}
	for _, r := range s.rows {
		r.GiveBack(w.number)
	}
	w.end()
	return how, lost
}

// keep gives a worker a successor each time it dies, until the service ends.
func (s *supervisor) keep(w *worker) {
	var pause time.Duration
	began := time.Now()
	how, lost := s.bury(w)
	for {
		pause = restartPause(pause, time.Since(began))
		if s.isStopping() {
			if lost > 0 {
				s.log.Error("worker died", "worker", w.number, "how", how, "lost_sessions", lost)
			}
			return
		}
		s.log.Error("worker died", "worker", w.number, "how", how, "lost_sessions", lost, "restart_in", pause.String())
		if !s.sleep(pause) {
			return
		}
		began = time.Now()
		how, lost = s.succeed(w)
	}
}

// succeed is the life of a worker's successor.
func (s *supervisor) succeed(w *worker) (how string, lost uint64) {
	w.countRestart()
	if err := s.spawn(w); err != nil {
		return err.Error(), 0
	}
	s.log.Info("worker restarted", "worker", w.number)
	return s.bury(w)
}

const (
	// A worker that has lived for steadyAfter is restarted at once: connections wait
	// in its queue. One that dies sooner will probably do so again: its successors wait
	// for minRestart, doubling to maxRestart.
	steadyAfter = time.Second / 2
	minRestart  = 100 * time.Millisecond
	maxRestart  = 10 * time.Second
)

// restartPause is how long to wait before the next start of a worker that has lived
// so long, and before whose start the last pause was made.
func restartPause(last, lived time.Duration) time.Duration {
	if lived >= steadyAfter {
		return 0
	}
	return min(max(2*last, minRestart), maxRestart)
}

// sleep waits; false if the service ends meanwhile.
func (s *supervisor) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return !s.isStopping()
	case <-s.stopping:
		return false
	}
}

func (s *supervisor) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// askAll sends a request to every running worker at the same time and returns what
// they have against it. No answer is only worth a line: the worker is dying, or stuck
// and finds the request when it goes on.
func (s *supervisor) askAll(m message) error {
	errs := make([]error, len(s.all))
	var wg sync.WaitGroup
	for i, w := range s.all {
		conn := w.reachable()
		if conn == nil {
			continue
		}
		wg.Go(func() {
			switch _, err := conn.ask(m, answerWithin); {
			case errors.Is(err, errWorkerSilent), errors.Is(err, errWorkerGone):
				s.log.Warn("worker does not answer", "worker", i, "request", m.Kind, "error", err)
			case err != nil:
				errs[i] = fmt.Errorf("worker %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *supervisor) apply(plan *proxy.Plan) error {
	before := s.plan.Swap(plan) // successors start with the new one
	err := s.askAll(message{Kind: kindApply, Plan: plan})
	if err != nil {
		s.plan.Store(before)
	}
	return err
}

func (s *supervisor) stopAccepting() {
	s.stop()
	for _, w := range s.all {
		w.drain()
	}
	_ = s.askAll(message{Kind: kindStopAccepting})
}

func (s *supervisor) cut(reason metrics.Reason) {
	_ = s.askAll(message{Kind: kindCut, Reason: reason})
}

func (s *supervisor) leave() {
	s.leaving.Store(true)
	_ = s.askAll(message{Kind: kindLeave})
}

func (s *supervisor) rescue(by, hung int, on bool) {
	s.all[by].setRescue(hung, on)
	if conn := s.all[by].reachable(); conn != nil {
		if err := conn.post(message{Kind: kindRescue, Hung: hung, On: on}); err != nil {
			s.log.Warn("worker does not listen", "worker", by, "request", kindRescue, "error", err)
		}
	}
}

func (s *supervisor) find(source netip.AddrPort) (int, bool) {
	for i, w := range s.all {
		if conn := w.reachable(); conn != nil {
			if m, err := conn.ask(message{Kind: kindFind, Source: source}, answerWithin); err == nil && m.Found {
				return i, true
			}
		}
	}
	return 0, false
}

// close ends every worker; one that does not answer is killed.
func (s *supervisor) close() {
	s.stop()
	_ = s.askAll(message{Kind: kindClose})
	ended := make(chan struct{})
	go func() {
		s.kept.Wait()
		close(ended)
	}()
	s.kill(func(p *process) bool { return p.conn.silent.Load() })
	for {
		select {
		case <-ended:
			return
		case <-time.After(answerWithin):
			s.kill(everyone)
		}
	}
}

func (s *supervisor) kill(whom func(p *process) bool) {
	for _, w := range s.all {
		if p := w.current(); p != nil && whom(p) {
			_ = p.Kill()
		}
	}
}

func everyone(*process) bool { return true }

func (s *supervisor) workers() []metrics.Worker {
	var out []metrics.Worker
	for _, w := range s.all {
		m := w.describe()
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
