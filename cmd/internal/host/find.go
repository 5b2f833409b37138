package host

import (
	"net/netip"
	"slices"
	"time"

	"sluice/metrics"
)

// Find asks all at the same time: one that is blocked lets its second pass.
func (t *threads) Find(source netip.AddrPort) (int, bool) {
	all := t.runningOnes()
	found := make(chan int, len(all))
	for seat, a := range all {
		go func() {
			if a.Holds(source) {
				found <- seat
			} else {
				found <- -1
			}
		}()
	}
	for range all {
		if seat := <-found; seat >= 0 {
			return seat, true
		}
	}
	return 0, false
}

func (t *threads) runningOnes() map[int]*thread {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[int]*thread{}
	for seat, a := range t.all {
		if a.running {
			all[seat] = a
		}
	}
	return all
}

// Find asks all workers at the same time, but those that would not answer.
func (s *supervisor) Find(source netip.AddrPort) (int, bool) {
	answers := make(chan answer, metrics.MaxAcceptors)
	q := &question{source: source, answers: answers}
	asked := 0
	s.mu.Lock()
	for _, w := range s.all {
		if w.told.inForce != nil && w.isWellLocked(s.Board) {
			w.questions = append(w.questions, q)
			w.wakeUp()
			asked++
		}
	}
	s.mu.Unlock()
	defer s.withdraw(q)
	late := time.After(answerWithin)
	for range asked {
		select {
		case a := <-answers:
			if a.found {
				return a.seat, true
			}
		case <-late:
			return 0, false
		case <-s.closed:
			return 0, false
		}
	}
	return 0, false
}

// question is a Find under way.
type question struct {
	source  netip.AddrPort
	answers chan<- answer // has room for every worker's
}

type answer struct {
	seat  int
	found bool
}

// withdraw takes back a question that some have not heard yet.
func (s *supervisor) withdraw(q *question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.all {
		w.questions = slices.DeleteFunc(w.questions, func(other *question) bool { return other == q })
	}
}
