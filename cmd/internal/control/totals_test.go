package control

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/health"
	"sluice/metrics"
)

// A backend whose addresses come and go: when they share their series, and what its total
// is of, from the commit that drops an address to the last session of it.
func TestTotals(t *testing.T) {
	w := newWorld(t)
	c := poolOf("app:80", "10.1.0.1:80")
	c.Admin.AddressSeries = 4
	last := &state{generation: 1}
	commit := func(from, to int) total {
		t.Helper()
		addrs := addresses{"10.1.0.1:80": {{addr: netip.MustParseAddrPort("10.1.0.1:80")}}}
		for i := from; i < to; i++ {
			addrs["app:80"] = append(addrs["app:80"], located{addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i))})
		}
		next := w.make(t, c, addrs, last)
		next.dropMissing(w.ledger)
		next.sumUp(last, w.ledger)
		last = next
		return last.totals[backendName{"p", "app:80"}]
	}
	for _, step := range []struct {
		addresses, bound int
		merged           bool
		why              string
	}{
		{4, 4, false, "as many as may be"}, {5, 4, true, "one more"}, {4, 4, true, "a few less"}, {3, 4, true, "more than half"},
		{2, 4, false, "half"}, {3, 4, false, "a few more"}, {5, 4, true, "too many again"}, {5, 8, false, "a larger bound"},
		{5, 0, false, "no bound"}, {5, 1, true, "a small one"}, {1, 1, true, "one is more than half of one"}, {0, 1, false, "none"},
	} {
		c.Admin.AddressSeries = step.bound
		if got := commit(0, step.addresses); got.merged != step.merged {
			t.Errorf("%d addresses, %d may have their own (%s): merged %t", step.addresses, step.bound, step.why, got.merged)
		}
	}

	// The count is in the total for as long as the backend is there, and it is once.
	c.Admin.AddressSeries = 1
	s := &service{Options: Options{}, board: w.board}
	count := func() uint64 {
		t.Helper()
		p, _ := last.pool("p")
		top := metrics.Topology{Pools: []metrics.Pool{last.showPool(p, health.PoolHealth{})}}
		be := metrics.TakeSnapshot(w.board, &metrics.Window{}, top, time.Now()).Pools[0].Backends[0]
		if be.Merged == nil {
			t.Fatal("not merged")
		}
		return be.Merged.Sum.Sessions
	}
	commit(10, 20)
	for i, target := range last.plan.Pools[0].Targets {
		if target.Backend == "app:80" {
			w.board.Target(i%2, target.ID).Sessions.Add(1)
		}
	}
	held := func(is bool) func(metrics.ID) bool { return func(metrics.ID) bool { return is } }
	for generation := 0; generation < 3; generation++ {
		if got := count(); got != 10 {
			t.Fatalf("%d sessions at all addresses, want 10", got)
		}
		if got := commit(12+generation, 20); len(got.left) == 0 || count() != 10 {
			t.Errorf("%d have left and may be held: %d sessions, want 10", len(got.left), count())
		}
		s.state = last
		s.addUp(w.targets.forget(last.generation, held(true)))
		if got := count(); got != 10 {
			t.Errorf("held: %d sessions, want 10", got)
		}
		s.addUp(w.targets.forget(last.generation, held(false)))
		if got := count(); got != 10 {
			t.Errorf("left for good: %d sessions, want 10", got)
		}
	}
	if commit(30, 50); count() != 10 { // numbers are used again
		t.Errorf("others came: %d sessions, want 10", count())
	}

	// With the backend its total goes.
	c.Pools = []config.Pool{c.Pools[0]}
	c.Pools[0].Backends = c.Pools[0].Backends[1:]
	commit(0, 0)
	if n := len(last.totals); n != 0 {
		t.Errorf("%d totals of nothing", n)
	}
}
