package proxy

import (
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// When all backends are down only so many sessions are tried again: what was there at the
// start, a share of the sessions, and one each second.
func TestRetryBudget(t *testing.T) {
	w := newWorld(t, many(4, 3), func(p *Plan) { p.Pools[0].RetryBudget = 0.25 })
	for i := range 4 { // all are known to fail
		w.a.Board.Failing()[i].Swap(metrics.NewFailure(time.Hour, 1, 9, metrics.ConnectRefused))
	}
	w.faults["connect"] = always(syscall.ECONNREFUSED)
	retries := func(sessions int) int {
		cells := w.a.bound.listeners[0].pool.cells
		before := cells.Retries.Load()
		for range sessions {
			w.accept()
		}
		return int(cells.Retries.Load() - before)
	}
	if n := retries(200); n < startBudget+49 || n > startBudget+51 { // the played clock moves on a bit
		t.Errorf("%d retries in 200 sessions, want %d", n, startBudget+50)
	}
	if n := w.a.bound.listeners[0].pool.cells.Unpaid.Load(); n < 150 {
		t.Errorf("%d were not paid for", n)
	}
	w.pass(4 * time.Second)
	if n := retries(4); n < 4 || n > 6 {
		t.Errorf("%d retries after 4 s, want 5", n)
	}
	next := w.plan.Renewed()
	w.apply(next)
	if n := retries(4); n > 2 {
		t.Errorf("%d retries after another Plan, want 1", n)
	}
	next = next.Renewed()
	next.Pools[0].RetryBudget = 0
	w.apply(next)
	if n := retries(4); n != 12 {
		t.Errorf("%d retries without a budget, want 12", n)
	}
	w.settled()
}

// One that refuses and was not known to costs nothing, nor does an address family that is
// not here: the budget is for targets that keep failing.
func TestRetryBudgetIsNotForNews(t *testing.T) {
	w := newWorld(t, many(50, 2), func(p *Plan) { p.Pools[0].RetryBudget = 0.01 })
	w.faults["connect"] = always(syscall.ECONNREFUSED)[:40]
	if _, s := w.accept(); s.state != stateDialing {
		t.Errorf("state %d, want dialing", s.state)
	}
	w.settled()
}
