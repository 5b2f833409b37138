package host

import (
	"errors"
	"fmt"
	"time"
)

// keep gives a worker a successor each time it dies, until its seat leaves or the
// service ends. A successor is told what is in force like all others.
func (s *supervisor) keep(w *worker) {
	defer s.seeOff(w)
	var pause time.Duration
	for restarts := uint64(0); ; restarts++ {
		began := time.Now()
		how, lost := s.live(w, restarts)
		pause = restartPause(pause, time.Since(began))
		if w.isDismissed() {
			if lost > 0 {
				s.Log.Error("worker died", "worker", w.seat, "how", how, "lost_sessions", lost)
			}
			return
		}
		s.Log.Error("worker died", "worker", w.seat, "how", how, "lost_sessions", lost, "restart_in", pause.String())
		select {
		case <-time.After(pause):
		case <-w.stop:
			return
		}
	}
}

func (w *worker) isDismissed() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// seeOff frees the seat of a worker that has ended for good.
func (s *supervisor) seeOff(w *worker) {
	s.mu.Lock()
	delete(s.all, w.seat)
	gone := w.served && !s.isClosed
	s.mu.Unlock()
	close(w.ended)
	if gone {
		s.Gone(w.seat)
	}
}

// live is the life of one process of w, from its start to its burial. It returns how
// it ended and how many sessions it took with it.
func (s *supervisor) live(w *worker, restarts uint64) (how string, lost uint64) {
	p, err := s.launch(w.seat)
	if err != nil {
		s.mu.Lock()
		s.blameLocked(w, err)
		s.mu.Unlock()
		return err.Error(), 0
	}
	s.mu.Lock()
	w.process, w.started, w.restarts, w.told, w.silent = p, time.Now(), restarts, newTold(), false
	s.mu.Unlock()
	s.brief(w, p)
	_ = p.Kill() // it has hung up or makes no sense, and could not be told anything any more
	how = s.reaper.wait(p.Process)
	p.conn.close()
	return how, s.bury(w, how)
}

// bury gives back what an ended process held, and returns how many sessions it has
// taken with it.
func (s *supervisor) bury(w *worker, how string) (lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gaveUp {
		return 0
	}
	// Under the mutex, for rows are the caller's again once Commit has returned.
	for _, e := range []*edition{s.inForce, s.prepared} {
		if e != nil {
			for _, g := range e.Groups {
				g.Rows.GiveBack(w.seat)
			}
		}
	}
	by := s.Board.GiveBack(w.seat)
	for _, n := range by {
		lost += n
	}
	if s.Lost != nil {
		s.Lost(w.seat, by)
	}
	s.Journal.Wake() // it may have written what it did not report
	// It may be what is prepared that killed it. Its successor, which comes to that as
	// well, shows: if it dies of it again, that is not chance.
	if e := s.prepared; e != nil && w.told.latest == e && w.told.bound != e {
		if w.diedOf == e {
			s.judgeLocked(w, e, errors.New(how))
		}
		w.diedOf = e
	}
	w.process, w.told, w.silent = nil, newTold(), false
	return lost
}

// blameLocked tells Prepare that a worker does not start, and what is prepared needs
// it.
func (s *supervisor) blameLocked(w *worker, err error) {
	if !s.inForce.has(w.seat) {
		s.judgeLocked(w, s.prepared, err)
	}
}

// judgeLocked tells Prepare what became of e at w.
func (s *supervisor) judgeLocked(w *worker, e *edition, err error) {
	if s.verdicts == nil || e != s.prepared {
		return
	}
	select {
	case s.verdicts <- verdict{w.seat, e, err}:
	default: // it has two of this seat already, and the first fault counts
	}
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

// refusal is a worker that will not do what all others do.
func refusal(w *worker, err error) error {
	return fmt.Errorf("worker %d does not take what is in force: %w", w.seat, err)
}
