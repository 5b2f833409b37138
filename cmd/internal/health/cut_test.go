package health

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// Sessions are cut on what checks find down, in a pool that wants it: not on what an operator
// takes out, nor in panic, and not by a Plan that does not want it any more.
func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		cut := func(p *config.Pool) { p.OnDown, p.PanicBelow = config.OnDownCut, 0.5 }
		told := 0
		w.o.Cut = func(string) { told++ }
		want := func(what string, cuts ...int) {
			t.Helper()
			is := w.Cuts(poolOf(0, 4, nil).Config.Name)
			for at := range cuts {
				if got := slices.Contains(is, idOf(at)); got != (cuts[at] == 1) {
					t.Errorf("%s: target %d is cut: %t", what, at, got)
				}
			}
			if len(is) > 0 && told == 0 {
				t.Errorf("%s: %d cuts were not reported", what, len(is))
			}
			told = 0
		}
		w.Commit([]Pool{poolOf(0, 4, cut)})
		w.set(1, true)
		time.Sleep(5 * time.Second)
		want("one is down", 0, 1, 0, 0)
		if _, err := w.Order(Order{Backend: "10.0.0.2:80", Want: Drain}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Order(Order{Backend: "10.0.0.1:80", Want: Disable}); err != nil {
			t.Fatal(err)
		}
		want("an operator has one down and one that is up", 0, 0, 0, 0)
		for _, backend := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
			if _, err := w.Order(Order{Backend: backend, Want: Enable}); err != nil {
				t.Fatal(err)
			}
		}
		want("they are put back", 0, 1, 0, 0)
		w.set(2, true)
		w.set(3, true)
		time.Sleep(5 * time.Second)
		if w.state(3) != metrics.TargetPanic {
			t.Fatalf("it is %s", w.state(3))
		}
		want("panic", 0, 0, 0, 0)
		w.set(2, false)
		time.Sleep(5 * time.Second)
		want("panic is over", 0, 1, 0, 1)
		w.Commit([]Pool{poolOf(0, 4, nil)})
		want("a reload", 0, 0, 0, 0)
	})
}
