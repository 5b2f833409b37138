// Package moving ends sessions at a pace, so that their clients come again, a few at a time,
// and get another backend.
//
//	a backend has left, and its pool cuts ─┐
//	one is down, and its pool cuts ────────┤
//	a backend has too many (spread.go) ────┼─► Task ─► Mover: every step some, the first by Order ─► host.Survey ─► acceptors
//	others that want a pace ───────────────┘           until Task.Next has no more
//
// A Mover knows no pools and no Plans: Task.Next says each time whose sessions are meant, by
// how things are then. All that it does to an acceptor is to ask it; one that hangs is
// passed over, and nothing happens there later.
package moving

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// Task is a set of sessions that are to end at a pace.
type Task struct {
	Name      string // no two of a name run at a time
	Reason    metrics.Reason
	Order     proxy.Order
	PerSecond int     // sessions
	Jitter    float64 // 0..1: each step has up to this share more or fewer
	// Next says of which sessions at most how many may end now; nil = the task is done. It may
	// be called until Close has returned, by one goroutine.
	Next func() []Portion
	// Ended is told how many did in a step; may be nil.
	Ended func(n int)
	Over  func() // called at its end, when another of its name may begin; may be nil
}

// Portion is a part of a step.
type Portion struct {
	Filter proxy.Filter
	Most   int
}

// Options is what a Mover is made of.
type Options struct {
	Log    *slog.Logger
	Survey func(map[int]proxy.Survey) (map[int]proxy.Surveyed, []int) // as host.Host has it
	Seats  func() []int                                               // that there are
	Until  func(time.Duration) int64                                  // the clock of Survey, that long from now
}

// Mover runs Tasks. Its methods may be called by any goroutine.
type Mover struct {
	o     Options
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	running map[string]bool
}

// step is how often a task goes on: a few at a time come sooner than many at once.
const step = 250 * time.Millisecond

// askWithin is how long acceptors have to look at their sessions: 100,000 of one that is busy
// take 0.1 s. It is all that one which hangs can delay.
const askWithin = 2 * time.Second

// GiveUpAfter is how long a Task that ends nothing should go on: what is left to be ended is
// held by acceptors that do not answer, or is about to end by itself.
const GiveUpAfter = 30 * time.Second

// New makes a Mover that does nothing yet.
func New(o Options) *Mover {
	m := &Mover{o: o, running: map[string]bool{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// Close ends all tasks and answers, some seconds later at most: nothing is asked after it.
func (m *Mover) Close() {
	m.mu.Lock()
	m.stop()
	m.mu.Unlock()
	m.tasks.Wait()
}

// Start has a task run by itself; false = one of its name does so already, or Close was called.
func (m *Mover) Start(t Task) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[t.Name] || m.ctx.Err() != nil {
		return false
	}
	m.running[t.Name] = true
	m.tasks.Go(func() {
		m.run(t)
		m.mu.Lock()
		delete(m.running, t.Name)
		m.mu.Unlock()
		if t.Over != nil {
			t.Over()
		}
	})
	return true
}

// Runs says whether a task of a name is under way.
func (m *Mover) Runs(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[name]
}

func (m *Mover) run(t Task) {
	begun, last := time.Now(), time.Now().Add(-step)
	total, due := 0, 0.0
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		portions := t.Next()
		if portions == nil || m.ctx.Err() != nil {
			break
		}
		now := time.Now()
		// What was not used in one step may be in the next, but a task does not save up.
		due = min(due, 1) + t.allowance(now.Sub(last))
		last = now
		for _, p := range portions {
			n := min(int(due), p.Most)
			if n <= 0 {
				continue
			}
			ended := m.End(proxy.Survey{Filter: p.Filter, Order: t.Order, End: true, Reason: t.Reason}, n)
			due -= float64(ended)
			total += ended
			if t.Ended != nil {
				t.Ended(ended)
			}
		}
		select {
		case <-tick.C:
		case <-m.ctx.Done():
		}
	}
	if total > 0 {
		m.o.Log.Info("sessions were ended", "task", t.Name, "reason", t.Reason.String(), "sessions", total, "took", time.Since(begun).Round(time.Millisecond).String())
	}
}

// allowance is how many may end after d, which counts as a second at most.
func (t *Task) allowance(d time.Duration) float64 {
	wobble := 1 + t.Jitter*(2*rand.Float64()-1)
	return float64(t.PerSecond) * min(d, time.Second).Seconds() * wobble
}

// End ends the first n of the sessions that q means, over all acceptors, and returns how many
// have ended.
func (m *Mover) End(q proxy.Survey, n int) (ended int) {
	look := q
	look.End, look.Limit = false, n
	answers, _ := m.Ask(look)
	answers, _ = m.EndAt(q, FirstOf(answers, q.Order, n))
	for _, a := range answers {
		ended += a.Ended
	}
	return ended
}

// Ask asks all acceptors the same, or the one that may have the session. silent are those
// that gave no whole answer in time.
func (m *Mover) Ask(q proxy.Survey) (answers map[int]proxy.Surveyed, silent []int) {
	quotas := map[int]int{}
	for _, seat := range m.o.Seats() {
		if q.Filter.ID == 0 || q.Filter.ID.Seat() == seat {
			quotas[seat] = q.Limit
		}
	}
	return m.EndAt(q, quotas)
}

// EndAt asks acceptors with a limit for each.
func (m *Mover) EndAt(q proxy.Survey, quotas map[int]int) (answers map[int]proxy.Surveyed, silent []int) {
	m.mu.Lock()
	if m.ctx.Err() != nil { // the acceptors may be gone
		m.mu.Unlock()
		return nil, slices.Sorted(maps.Keys(quotas))
	}
	m.tasks.Add(1)
	m.mu.Unlock()
	defer m.tasks.Done()
	q.Until = m.o.Until(askWithin)
	asks := map[int]proxy.Survey{}
	for seat, n := range quotas {
		q.Limit = n
		asks[seat] = q
	}
	return m.o.Survey(asks)
}

// FirstOf says how many of each acceptor are among the first n over all.
func FirstOf(answers map[int]proxy.Surveyed, o proxy.Order, n int) (quotas map[int]int) {
	quotas = map[int]int{}
	for _, h := range Sorted(answers, o, n) {
		quotas[h.ID.Seat()]++
	}
	return quotas
}

// Sorted are the first n of all that were described.
func Sorted(answers map[int]proxy.Surveyed, o proxy.Order, n int) (all []proxy.Held) {
	for _, a := range answers {
		all = append(all, a.Held...)
	}
	slices.SortFunc(all, func(a, b proxy.Held) int {
		order := cmp.Compare(b.Age, a.Age)
		switch o {
		case proxy.NewestFirst:
			order = -order
		case proxy.IdlestFirst:
			order = cmp.Or(cmp.Compare(b.Idle, a.Idle), order)
		case proxy.LargestFirst:
			order = cmp.Or(cmp.Compare(b.Received+b.Sent, a.Received+a.Sent), order)
		}
		return cmp.Or(order, cmp.Compare(a.ID, b.ID))
	})
	return all[:min(n, len(all))]
}

// share is n of a share, rounded up.
func share(n int64, of float64) int64 { return int64(math.Ceil(float64(n) * of)) }
