package host

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// heldPerFrame is how many sessions go with one message of a worker: of less than 250
// bytes each, they are within answerLimit.
const heldPerFrame = 200

// maxWaitingSurveys bounds what a worker that does not read is going to be asked.
const maxWaitingSurveys = 64

// answerGrace is how much longer than its time an answer is waited for: one that was
// given in time is on its way.
const answerGrace = 200 * time.Millisecond

// SurveyWithin is the time for a Survey that has so long from now on.
func SurveyWithin(d time.Duration) int64 { return metrics.Monotonic() + int64(d) }

// Survey asks all at the same time.
func (t *threads) Survey(asks map[int]proxy.Survey) (map[int]proxy.Surveyed, []int) {
	running := t.runningOnes()
	c, left := newCollection(), leftUntil(asks)
	var all sync.WaitGroup
	for seat, q := range asks {
		a := running[seat]
		if a == nil || t.Board.Acceptor(seat).Hung.Load() != 0 {
			continue
		}
		done := make(chan proxy.Surveyed, 1)
		a.Survey(q, done)
		all.Go(func() {
			select {
			case answer := <-done:
				c.put(seat, answer)
			case <-a.Ended():
			case <-time.After(left):
			}
		})
	}
	all.Wait()
	return c.of(asks)
}

// Survey asks all workers at the same time, but those that would not answer.
func (s *supervisor) Survey(asks map[int]proxy.Survey) (map[int]proxy.Surveyed, []int) {
	c := newCollection()
	s.mu.Lock()
	numbers := map[int]uint64{}
	for seat, q := range asks {
		w := s.all[seat]
		if w == nil || w.told.inForce == nil || !w.isWellLocked(s.Board) || len(w.surveys) >= maxWaitingSurveys {
			continue
		}
		numbers[seat] = s.surveys.begin(seat, q.Limit, c)
		w.surveys = append(w.surveys, &message{Kind: kindSurvey, Number: numbers[seat], Survey: &q})
		w.wakeUp()
	}
	s.mu.Unlock()
	defer s.surveys.end(numbers)
	late := time.After(leftUntil(asks))
	for range numbers {
		select {
		case <-c.came:
		case <-late:
			return c.of(asks)
		case <-s.closed:
			return c.of(asks)
		}
	}
	return c.of(asks)
}

// leftUntil is how long answers are waited for.
func leftUntil(asks map[int]proxy.Survey) time.Duration {
	for _, q := range asks {
		return time.Duration(q.Until-metrics.Monotonic()) + answerGrace
	}
	return 0
}

// collection gathers the answers to one call.
type collection struct {
	came    chan struct{} // once for each answer
	mu      sync.Mutex
	answers map[int]proxy.Surveyed
}

func newCollection() *collection {
	return &collection{came: make(chan struct{}, metrics.MaxAcceptors), answers: map[int]proxy.Surveyed{}}
}

func (c *collection) put(seat int, s proxy.Surveyed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[seat] = s
	c.came <- struct{}{}
}

// of is what has come, and which seats gave no whole answer. A late one counts with
// what it has done.
func (c *collection) of(asks map[int]proxy.Survey) (map[int]proxy.Surveyed, []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var silent []int
	for _, seat := range slices.Sorted(maps.Keys(asks)) {
		if a, ok := c.answers[seat]; !ok || a.Late {
			silent = append(silent, seat)
		}
	}
	return maps.Clone(c.answers), silent
}

// asked are the surveys of workers that are waited for, by number.
type asked struct {
	mu   sync.Mutex
	last uint64
	all  map[uint64]*partly
}

// partly is an answer that comes in parts.
type partly struct {
	seat  int
	limit int
	sum   proxy.Surveyed
	to    *collection
}

func (a *asked) begin(seat, limit int, to *collection) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[uint64]*partly{}
	}
	a.last++
	a.all[a.last] = &partly{seat: seat, limit: limit, to: to}
	return a.last
}

func (a *asked) end(numbers map[int]uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range numbers {
		delete(a.all, n)
	}
}

// add takes a part of an answer from a worker. What was not asked for is left out: a
// mad worker costs no more than it was asked for.
func (a *asked) add(seat int, m *message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.all[m.Number]
	if p == nil || p.seat != seat || len(p.sum.Held)+len(m.Surveyed.Held) > p.limit {
		return
	}
	held := append(p.sum.Held, m.Surveyed.Held...)
	p.sum = *m.Surveyed
	p.sum.Held = held
	if !m.More {
		delete(a.all, m.Number)
		p.to.put(seat, p.sum)
	}
}

// soundAnswer says whether what a worker answers can be.
func soundAnswer(s *proxy.Surveyed) bool {
	for _, h := range s.Held {
		if h.State >= proxy.NumHeldStates || h.Listener >= metrics.MaxListeners || h.Target >= metrics.MaxTargets {
			return false
		}
	}
	for _, id := range s.Ways {
		if !id.Valid(metrics.MaxTargets) {
			return false
		}
	}
	return len(s.Ways) <= proxy.MaxWays && s.Seen >= 0 && s.Matched >= 0 && s.Ended >= 0
}

// survey has the worker's acceptor answer, and passes the answer on.
func (w *workerEnd) survey(a *proxy.Acceptor, m message) {
	done := make(chan proxy.Surveyed, 1)
	a.Survey(*m.Survey, done)
	select {
	case answer := <-done:
		for _, part := range partsOf(answer, m.Number) {
			_ = w.send(part)
		}
	case <-a.Ended():
	case <-time.After(time.Duration(m.Survey.Until-metrics.Monotonic()) + answerGrace):
	}
}

// partsOf is an answer as messages; all of them say the figures.
func partsOf(answer proxy.Surveyed, number uint64) (parts []message) {
	held := answer.Held
	for more := true; more; {
		part := answer
		n := min(len(held), heldPerFrame)
		part.Held, held = held[:n], held[n:]
		more = len(held) > 0
		parts = append(parts, message{Kind: kindSurveyed, Number: number, Surveyed: &part, More: more})
	}
	return parts
}
