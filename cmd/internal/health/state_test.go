package health

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// The truth table, every line of it.
func TestStateOf(t *testing.T) {
	zero, two := 0, 2
	none, drain, disable := metrics.Operator{}, metrics.Operator{Want: Drain}, metrics.Operator{Want: Disable}
	weight0, weight2 := metrics.Operator{Want: Weight, Weight: &zero}, metrics.Operator{Want: Weight, Weight: &two}
	for _, test := range []struct {
		order              metrics.Operator
		up, panic, warming bool
		want               metrics.TargetState
		takesNew           bool
	}{
		{none, true, false, false, metrics.TargetUp, true},
		{none, true, false, true, metrics.TargetWarming, true},
		{none, true, true, false, metrics.TargetUp, true},
		{none, true, true, true, metrics.TargetUp, true},
		{none, false, false, false, metrics.TargetDown, false},
		{none, false, false, true, metrics.TargetDown, false},
		{none, false, true, false, metrics.TargetPanic, true},
		{none, false, true, true, metrics.TargetPanic, true},
		{weight2, true, false, false, metrics.TargetUp, true},
		{weight2, true, false, true, metrics.TargetWarming, true},
		{weight2, false, false, false, metrics.TargetDown, false},
		{weight2, false, true, false, metrics.TargetPanic, true},
		{weight0, true, false, false, metrics.TargetDraining, false},
		{weight0, false, true, true, metrics.TargetDraining, false},
		{drain, true, false, false, metrics.TargetDraining, false},
		{drain, true, true, true, metrics.TargetDraining, false},
		{drain, false, false, false, metrics.TargetDraining, false},
		{drain, false, true, false, metrics.TargetDraining, false},
		{disable, true, false, false, metrics.TargetDisabled, false},
		{disable, true, true, true, metrics.TargetDisabled, false},
		{disable, false, false, false, metrics.TargetDisabled, false},
		{disable, false, true, false, metrics.TargetDisabled, false},
	} {
		got := stateOf(test.order, test.up, test.panic, test.warming)
		if got != test.want || takesNew(got) != test.takesNew {
			t.Errorf("%+v is %s and takes new sessions: %t", test, got, takesNew(got))
		}
	}
}

func TestVerdict(t *testing.T) {
	const rise, fall = 2, 3
	for _, test := range []struct {
		start            bool
		results, verdict string // one letter for each check: + well, - not; then what is said after it
	}{
		{true, "+++", "+++"},
		{true, "---", "++-"},
		{true, "--+---", "+++++-"},
		{true, "---+++", "++--++"},
		{true, "---+-++", "++----+"},
		{false, "-+", "-+"}, // the first success is enough
		{false, "+--+---+-++", "++++++----+"},
	} {
		v := verdict{up: test.start}
		var got []byte
		for _, r := range test.results {
			v.add(r == '+', rise, fall, time.Now())
			got = append(got, "-+"[one(v.up)])
		}
		if string(got) != test.verdict {
			t.Errorf("start %t, %s: %s, want %s", test.start, test.results, got, test.verdict)
		}
	}
}

// One that is down is taken out after fall checks, and back after rise. A Commit that changes
// nothing changes nothing.
func TestDownAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.Commit([]Pool{poolOf(0, 2, nil)})
		w.want("at the start", 1, 1)
		time.Sleep(500 * time.Millisecond)
		w.set(1, true)
		time.Sleep(2 * time.Second)
		w.want("2 failures", 1, 1)
		time.Sleep(time.Second)
		w.want("3 failures", 1, 0)
		if s := w.state(1); s != metrics.TargetDown {
			t.Errorf("it is %s", s)
		}
		w.Commit([]Pool{poolOf(0, 2, nil)})
		w.want("after a reload", 1, 0)
		w.set(1, false)
		time.Sleep(time.Second)
		w.want("1 success", 1, 0)
		time.Sleep(time.Second)
		w.want("2 successes", 1, 1)
		if down, up := w.logged("backend is down"), w.logged("backend is up"); down != 1 || up != 1 {
			t.Errorf("the log says down %d times and up %d times", down, up)
		}
		states, _ := w.Snapshot()
		if c := states[idOf(1)].Check; !c.Up || c.Failures.Of("refused") != 3 {
			t.Errorf("shown: %+v", c)
		}
		w.Commit([]Pool{poolOf(0, 1, nil)})
		if states, _ := w.Snapshot(); len(states) != 1 {
			t.Errorf("%d targets are left", len(states))
		}
	})
}

// The failures of an address that leaves stay with its backend, for as long as that is
// configured and checked.
func TestFailuresOfWhatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		of := func(targets int, named bool, change func(*config.Pool)) []Pool {
			p := poolOf(0, targets, change)
			for i := range p.Targets {
				p.Targets[i].Backend = "app.test:80"
			}
			if named {
				p.Config.Backends = []config.Backend{{Address: "app.test:80", Weight: 1}}
			}
			return []Pool{p}
		}
		total := func() (n uint64) {
			states, pools := w.Snapshot()
			for _, s := range states {
				if s.Check != nil {
					n += s.Check.Failures.Of("refused")
				}
			}
			left := pools["app"].Left["app.test:80"]
			return n + left[metrics.CheckRefused]
		}
		w.set(1, true)
		w.set(2, true)
		w.Commit(of(3, true, nil))
		time.Sleep(3500 * time.Millisecond)
		before := total()
		if before == 0 {
			t.Fatal("no check has failed")
		}
		for targets := 2; targets >= 0; targets-- {
			w.Commit(of(targets, true, nil))
			if got := total(); got != before {
				t.Errorf("with %d targets: %d failures, want %d", targets, got, before)
			}
		}
		w.Commit(of(1, true, func(c *config.Pool) { c.Health.Check = config.CheckOff }))
		if got := total(); got != 0 {
			t.Errorf("not checked, and %d failures are left", got)
		}
		w.Commit(of(2, true, nil))
		time.Sleep(time.Second)
		w.Commit(of(1, true, nil))
		if total() == 0 {
			t.Error("checked again, and nothing is left")
		}
		w.Commit(of(1, false, nil))
		if got := total(); got != 0 {
			t.Errorf("not configured, and %d failures are left", got)
		}
	})
}

func TestStartDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.set(1, true)
		w.Commit([]Pool{poolOf(0, 2, func(c *config.Pool) { c.Health.Start = config.StartDown })})
		w.want("before any check", 0, 0)
		time.Sleep(10 * time.Millisecond)
		w.want("after the first", 1, 0)
		w.Commit([]Pool{poolOf(0, 2, func(c *config.Pool) { c.Health.Check = config.CheckOff })})
		w.want("without checks", 1, 1)
	})
}

// In panic all are used, but for those that an operator took out.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		w.Commit([]Pool{poolOf(0, 5, func(c *config.Pool) { c.PanicBelow = 0.5 })})
		if _, err := w.Order(Order{Backend: "10.0.0.4:80", Want: Drain}); err != nil {
			t.Fatal(err)
		}
		for at := range 3 {
			w.set(at, true)
			time.Sleep(4 * time.Second)
			switch at {
			case 1:
				w.want("2 of 4 are down", 0, 0, 1, 1, 0)
			case 2:
				w.want("3 of 4 are down", 1, 1, 1, 1, 0)
			}
		}
		if _, pools := w.Snapshot(); !pools["app"].Panic || w.state(0) != metrics.TargetPanic {
			t.Errorf("panic: %v, a target is %s", pools, w.state(0))
		}
		w.set(1, false)
		time.Sleep(3 * time.Second)
		w.want("one is back", 0, 1, 0, 1, 0)
		if w.logged("all are used") != 1 || w.logged("healthy again") != 1 {
			t.Errorf("log: %s", w.log)
		}
	})
}

// Backups stand in for primaries: no panic while there are enough of both.
func TestBackupsAvertPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		p := poolOf(0, 2, func(c *config.Pool) { c.PanicBelow = 1 })
		p.Targets[1].Backup = true
		w.Commit([]Pool{p})
		w.set(0, true)
		time.Sleep(4 * time.Second)
		w.want("the primary is down", 0, 1)
		w.set(1, true)
		time.Sleep(4 * time.Second)
		w.want("both are down", 1, 1)
	})
}

// The share of one that comes back or joins grows evenly to its own.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 64 * time.Second
		slowly := func(c *config.Pool) { c.SlowStart = slow }
		w := newWorld(t, 3)
		w.Commit([]Pool{poolOf(0, 2, slowly)})
		w.want("at the start of the service nobody is slow", 1, 1)
		w.set(1, true)
		time.Sleep(4 * time.Second)
		w.set(1, false)
		for w.weight(1) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		back := time.Now()
		grows := func(at int, since time.Time) {
			t.Helper()
			for time.Since(since) < slow-time.Second {
				time.Sleep(5 * time.Second)
				should := min(1, time.Since(since).Seconds()/slow.Seconds())
				if got := w.weight(at); got < should-0.04 || got > should+0.02 {
					t.Errorf("after %v the weight is %.3f", time.Since(since), got)
				}
			}
			time.Sleep(2 * time.Second)
		}
		if s := w.state(1); s != metrics.TargetWarming {
			t.Errorf("it is %s", s)
		}
		grows(1, back)
		w.want("when it has grown", 1, 1)
		w.Commit([]Pool{poolOf(0, 3, slowly)})
		grows(2, time.Now())
		w.want("when the new one has grown", 1, 1, 1)
	})
}

// What an operator says holds over Commits, ends when its time is over, and is forgotten
// with its backend. A disabled one is not checked, a draining one is.
func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const zero, one = "10.0.0.0:80", "10.0.0.1:80"
		w := newWorld(t, 2)
		p := poolOf(0, 2, nil)
		w.Commit([]Pool{p})
		order := func(o Order) {
			t.Helper()
			if pools, err := w.Order(o); err != nil || len(pools) != 1 {
				t.Fatalf("%v, %v", pools, err)
			}
		}
		order(Order{Backend: zero, Want: Disable, For: 10 * time.Second})
		order(Order{Backend: one, Want: Drain})
		w.want("taken out", 0, 0)
		w.Commit([]Pool{p})
		w.want("after a Commit", 0, 0)
		before, drained := w.checks(0), w.checks(1)
		time.Sleep(9900 * time.Millisecond)
		if n := w.checks(0); n != before {
			t.Errorf("a disabled one is checked %d times", n-before)
		}
		if n := w.checks(1); n < drained+9 {
			t.Errorf("a draining one is checked %d times", n-drained)
		}
		w.want("before its end", 0, 0)
		time.Sleep(200 * time.Millisecond)
		w.want("after its end", 1, 0)
		order(Order{Backend: one, Want: Weight, Weight: 7})
		w.want("another weight", 1, 7)
		w.set(1, true)
		time.Sleep(4 * time.Second)
		w.want("one that is down", 1, 0)
		w.set(1, false)
		time.Sleep(4 * time.Second)
		w.want("back", 1, 7)
		if _, err := w.Order(Order{Backend: "10.0.0.9:80", Want: Drain}); err == nil {
			t.Error("an unknown backend is drained")
		}
		w.Commit([]Pool{poolOf(0, 1, nil)})
		w.Commit([]Pool{p})
		w.want("it is new", 1, 1)
	})
}

// Those that acceptors have found wanting are not healthy. Panic lets the ejected ones back, and
// ends when sessions have proved enough of them.
func TestIllCountForPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		failing, strikes, panics := make([]metrics.Failing, 4), make([]metrics.Strikes, 4), make([]metrics.Gauge, 3)
		w.o.Failing, w.o.Strikes, w.o.Panics = failing, strikes, panics
		p := poolOf(0, 4, func(c *config.Pool) { c.PanicBelow, c.Health.Check = 0.5, config.CheckOff })
		p.ID = metrics.NewID(2, 1)
		w.Commit([]Pool{p})
		in := func() bool {
			t.Helper()
			time.Sleep(illEvery + time.Millisecond)
			_, all := w.Snapshot()
			if all["app"].Panic != (panics[2].Load() == 1) {
				t.Errorf("panic %v, and the board says %v", all["app"].Panic, panics[2].Load())
			}
			return all["app"].Panic
		}
		fail := func(at int, failures int, class metrics.ConnectError) {
			failing[at].Swap(metrics.NewFailure(time.Hour, failures, 0, class))
		}
		fail(0, 1, metrics.EarlyClose)
		strikes[0].Change(func(s *metrics.Strike) { s.Ejections = 1 })
		fail(1, 1, metrics.ConnectRefused)
		fail(2, 0, metrics.ConnectTimeout) // only suspected
		if in() {
			t.Error("panic with half of them left")
		}
		fail(2, 1, metrics.ConnectTimeout)
		if !in() || failing[0].Load() != 0 || failing[1].Load() == 0 {
			t.Errorf("one of four is left, and the ejected is not back")
		}
		w.Commit([]Pool{p})
		if !in() {
			t.Error("it is over though nobody has proved anything")
		}
		strikes[0].Clear()
		if in() {
			t.Error("half of them are well, and it is not over")
		}
		failing[3].Swap(metrics.NewFailure(time.Hour, 1, 0, metrics.ConnectRefused))
		if !in() {
			t.Error("no panic")
		}
		p.Config.PanicBelow = 0
		w.Commit([]Pool{p})
		if in() {
			t.Error("it is not over though it is turned off")
		}
		w.want("nobody has another weight for that", 1, 1, 1, 1)
	})
}
