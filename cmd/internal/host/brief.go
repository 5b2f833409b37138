package host

import (
	"errors"
	"time"
)

// brief keeps a process informed, one order at a time, and returns when it has gone.
// What should be told may change meanwhile, however long an answer takes: the next
// order follows from what is so by then.
func (s *supervisor) brief(w *worker, p *process) {
	for {
		s.mu.Lock()
		o := s.nextLocked(w)
		var id uint64
		var err error
		if o != nil && len(o.fds) > 0 {
			// Under the mutex: the caller may close them as soon as a Commit has returned.
			// It can't wait, since the worker has read everything before it.
			id, err = p.conn.give(o.m, o.fds)
		}
		s.mu.Unlock()
		switch {
		case o == nil:
			select {
			case <-w.wake:
			case <-p.conn.gone:
				return
			}
			continue
		case o.fatal != nil:
			_ = p.Kill()
			s.Log.Error("worker is ended", "worker", w.seat, "error", o.fatal)
			<-p.conn.gone
			return
		case len(o.fds) == 0:
			id, err = p.conn.say(o.m, o.before)
		}
		if errors.Is(err, errNoRoom) { // others read theirs meanwhile
			if !p.conn.rest(roomWithin) {
				return
			}
			continue
		}
		if err != nil || !s.hear(w, p, o, id) {
			return
		}
	}
}

// roomWithin is when to look again for room for descriptors.
const roomWithin = 10 * time.Millisecond

// hear waits for the answer to an order; false = none will come.
func (s *supervisor) hear(w *worker, p *process, o *order, id uint64) bool {
	within := answerWithin
	if o.m.Kind == kindStart {
		within = startWithin
	}
	m, err := p.conn.answer(id, within)
	if errors.Is(err, errWorkerSilent) {
		if o.m.Kind == kindStart {
			_ = p.Kill()
			s.Log.Error("worker is ended: it does not start", "worker", w.seat)
			return false
		}
		s.setSilent(w, true)
		s.Log.Warn("worker does not answer; it is told the rest when it does", "worker", w.seat, "request", o.m.Kind)
		if m, err = p.conn.answer(id, 0); err == nil {
			s.Log.Info("worker answers again", "worker", w.seat)
		}
		s.setSilent(w, false)
	}
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.m.Kind == kindStart && m.Error != "" {
		s.blameLocked(w, m.fault())
		return false
	}
	if q := o.asks; q != nil {
		s.answeredLocked(w, q, m.Found)
	}
	o.done(m.fault())
	return true
}

func (s *supervisor) setSilent(w *worker, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.silent = silent
}

func (s *supervisor) answeredLocked(w *worker, q *question, found bool) {
	for i, other := range w.questions {
		if other == q {
			w.questions = append(w.questions[:i], w.questions[i+1:]...)
			q.answers <- answer{w.seat, found}
			return
		}
	}
}
