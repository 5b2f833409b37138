package host

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/metrics"
)

// supervisor is the host of mode "process": each acceptor in a worker process of its
// own. It keeps what the workers should be doing; their briefs (brief.go) see to it that
// each does. So nothing here waits for a worker but Prepare, Find and Close, which
// are bounded.
type supervisor struct {
	Options
	*reaper

	mu       sync.Mutex // guards what follows, and all of the workers; nothing waits or logs under it
	all      map[int]*worker
	births   uint64
	prepared *edition
	inForce  *edition
	rescues  rescues
	surveys  asked
	frames   map[*edition][]byte // of prepared and inForce, shared by all workers
	verdicts chan verdict        // on prepared; nil = they are not waited for
	closed   chan struct{}       // closed by Close
	isClosed bool
	gaveUp   bool // Close did: board and rows may be gone
}

// verdict is what became of an edition at one seat.
type verdict struct {
	seat int
	on   *edition
	err  error // nil = bound
}

func newSupervisor(o Options, r *reaper) *supervisor {
	keepDescriptors()
	return &supervisor{
		Options: o, reaper: r, all: map[int]*worker{}, rescues: rescues{}, frames: map[*edition][]byte{}, closed: make(chan struct{}),
	}
}

func (s *supervisor) Prepare(o Orders) error {
	err := s.prepare(o)
	if err != nil {
		s.rollBack()
	}
	return err
}

func (s *supervisor) prepare(o Orders) error {
	s.mu.Lock()
	inForce := s.inForce
	s.mu.Unlock()
	e, err := newEdition(o, inForce)
	if err != nil {
		return err
	}
	frame, err := e.frame()
	if err != nil {
		return err
	}
	verdicts := make(chan verdict, 2*metrics.MaxAcceptors) // one of each seat, or two: bound, then dead
	awaited, err := s.publish(e, frame, verdicts)
	if err != nil {
		return err
	}
	return s.await(e, awaited, verdicts)
}

// publish makes e what workers should have bound, and returns the seats whose verdict
// is waited for: new for those that begin with it.
func (s *supervisor) publish(e *edition, frame []byte, verdicts chan verdict) (awaited map[int]bool, err error) {
	var ending []*worker
	defer func() { waitForEnd(ending) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return nil, errClosed
	}
	awaited = map[int]bool{}
	for seat := range metrics.MaxAcceptors {
		if !e.has(seat) {
			continue
		}
		w := s.all[seat]
		switch fresh := !s.inForce.has(seat); {
		case w != nil && w.leaving:
			return nil, fmt.Errorf("seat %d: %w", seat, errEnding)
		case w == nil:
			s.all[seat] = s.newWorkerLocked(seat)
			awaited[seat] = true
		case fresh:
			awaited[seat] = true
		case w.isWellLocked(s.Board):
			awaited[seat] = false
		}
	}
	s.prepared, s.verdicts = e, verdicts
	s.frames[e] = frame
	ending = s.tidyLocked()
	for seat := range awaited {
		if w := s.all[seat]; !w.kept {
			w.kept = true
			go s.keep(w)
		}
	}
	s.wakeLocked()
	return awaited, nil
}

func (s *supervisor) newWorkerLocked(seat int) *worker {
	s.births++
	return &worker{
		seat: seat, birth: s.births, wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// await waits for the verdicts on e, and returns the first fault.
func (s *supervisor) await(e *edition, awaited map[int]bool, verdicts <-chan verdict) error {
	silent, late := time.NewTimer(answerWithin), time.NewTimer(startWithin)
	defer silent.Stop()
	defer late.Stop()
	for len(awaited) > 0 {
		select {
		case v := <-verdicts:
			if v.on != e {
				continue
			}
			if v.err != nil {
				return fmt.Errorf("worker %d: %w", v.seat, v.err)
			}
			delete(awaited, v.seat)
		case <-silent.C:
			maps.DeleteFunc(awaited, func(_ int, fresh bool) bool { return !fresh })
		case <-late.C:
			return fmt.Errorf("worker %d: not started within %v", slices.Min(slices.Collect(maps.Keys(awaited))), startWithin)
		case <-s.closed:
			return errClosed
		}
	}
	return nil
}

// rollBack forgets what is prepared, and ends the workers that were started for it.
func (s *supervisor) rollBack() {
	s.mu.Lock()
	s.prepared, s.verdicts = nil, nil
	ending := s.tidyLocked()
	s.wakeLocked()
	s.mu.Unlock()
	waitForEnd(ending)
}

// waitForEnd waits for the end of workers whose seat was never in force: nothing
// reports when it is free, so it must be before the next Prepare.
func waitForEnd(ending []*worker) {
	late := time.After(closeWithin)
	for _, w := range ending {
		select {
		case <-w.ended:
		case <-late:
			return
		}
	}
}

func (s *supervisor) Commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prepared == nil || s.isClosed {
		return
	}
	s.inForce, s.prepared, s.verdicts = s.prepared, nil, nil // here it goes live
	for seat, w := range s.all {
		w.served = w.served || s.inForce.has(seat)
	}
	s.tidyLocked()
	s.wakeLocked()
}

// tidyLocked ends the workers whose seat no edition names any more, and returns them. One
// that was never in force holds nothing that it could lose.
func (s *supervisor) tidyLocked() (ending []*worker) {
	for seat, w := range s.all {
		if !w.leaving && !s.inForce.has(seat) && !s.prepared.has(seat) {
			s.rescues.forget(seat)
			w.dismissLocked()
			if !w.kept {
				delete(s.all, seat)
				continue
			}
			ending = append(ending, w)
			if !w.served {
				w.killLocked()
			}
			time.AfterFunc(closeWithin, func() { s.kill(w) })
		}
	}
	for e := range s.frames {
		if e != s.prepared && e != s.inForce {
			delete(s.frames, e)
		}
	}
	return ending
}

func (s *supervisor) kill(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.killLocked()
}

func (s *supervisor) wakeLocked() {
	for _, w := range s.all {
		w.wakeUp()
	}
}

// Close ends every worker; one that does not end by itself is killed.
func (s *supervisor) Close() {
	s.mu.Lock()
	if !s.isClosed {
		s.isClosed = true
		close(s.closed)
	}
	all := slices.Collect(maps.Values(s.all))
	for _, w := range all {
		w.dismissLocked()
		if w.silent {
			w.killLocked()
		}
	}
	s.wakeLocked()
	s.mu.Unlock()

	late, tooLate := time.After(closeWithin), time.After(closeWithin+closeWithin)
	for _, w := range all {
		for ended := false; !ended; {
			select {
			case <-w.ended:
				ended = true
			case <-late:
				for _, w := range all {
					s.kill(w)
				}
			case <-tooLate: // not even a kill ended it: it hangs in the kernel
				s.mu.Lock()
				s.gaveUp = true
				s.mu.Unlock()
				s.Log.Warn("not every worker has ended", "worker", w.seat)
				return
			}
		}
	}
}

func (s *supervisor) Workers() (out []metrics.Worker) {
	s.mu.Lock()
	for _, seat := range slices.Sorted(maps.Keys(s.all)) {
		if w := s.all[seat]; w.served {
			out = append(out, w.describeLocked(s.inForce))
		}
	}
	s.mu.Unlock()
	for i := range out {
		if out[i].PID != 0 {
			readProcess(&out[i])
		}
	}
	return out
}

func (s *supervisor) Placement() (placed []metrics.Acceptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seat := range slices.Sorted(maps.Keys(s.all)) {
		if s.all[seat].served {
			placed = append(placed, metrics.Acceptor{Number: seat, Worker: seat, Leaving: s.inForce.leaves(seat)})
		}
	}
	return placed
}
