package metrics

import (
	"maps"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestGiveBack(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	const dead, alive = 1, 0
	for _, seat := range []int{dead, alive} {
		act(b, seat)
	}
	b.Held()[db1ID.Index()].Store(4) // two by each
	lost := b.GiveBack(dead)
	if want := map[ID]uint64{webID: 3}; !maps.Equal(lost, want) {
		t.Errorf("lost %v, want %v", lost, want)
	}
	for id, waits := range map[ID]uint64{webID: 5, quietID: 0} {
		l := b.Listener(dead, id)
		given := l.Accepted.Load() + l.Taken.Load()
		found := uint64(l.Active.Load()) + l.HandedOff.Load() + total(l.Rejected[:]) + total(l.Closed[:])
		died := l.Closed[ReasonWorkerDied].Load()
		if given != found || died != lost[id] {
			t.Errorf("dead acceptor on %d: given %d, found %d, worker_died %d", id, given, found, died)
		}
		if got := l.Waited[WaitClosed].Load(); got != waits {
			t.Errorf("dead acceptor on %d: %d waits closed, want %d", id, got, waits)
		}
	}
	l := b.Listener(alive, webID)
	if died := l.Closed[ReasonWorkerDied].Load(); died != 0 || l.Active.Load() != 2 {
		t.Errorf("living acceptor: worker_died %d, active %d", died, l.Active.Load())
	}
	if got := b.Held()[db1ID.Index()].Load(); got != 2 || b.Target(alive, db1ID).Active.Load() != 2 {
		t.Errorf("the target is held by %d sessions, want the 2 of the living acceptor", got)
	}
	for name, sum := range gauges(b, dead) {
		if name == "Record" { // an order to the seat, and nothing that the dead held
			continue
		}
		if sum != 0 {
			t.Errorf("gauge %s of the dead is %d", name, sum)
		}
	}
	for name, sum := range gauges(b, alive) {
		if sum == 0 {
			t.Errorf("gauge %s of the living is 0", name)
		}
	}
	if c := b.Acceptor(dead); c.Turns.Load() != 1000 || c.Hangs.Load() != 1 {
		t.Errorf("counters of the dead became %d turns, %d hangs", c.Turns.Load(), c.Hangs.Load())
	}
	if again := b.GiveBack(dead); len(again) != 0 || b.Held()[db1ID.Index()].Load() != 2 {
		t.Errorf("a second time lost %v, and left %d held", again, b.Held()[db1ID.Index()].Load())
	}
}

// The lost sessions are in the histogram, as many as are closed.
func TestGiveBackObservesTheLost(t *testing.T) {
	b := newBoard(t)
	b.OpenListener(webID)
	b.header().born -= int64(time.Hour) // so that sessions may be some minutes old
	l := b.Listener(0, webID)
	l.Accepted.Add(4)
	l.Closed[ReasonClientEOF].Add(1)
	l.Duration.Observe(time.Second)
	l.Active.Store(3)
	for _, age := range []time.Duration{time.Minute, 2 * time.Minute, 12 * time.Minute} {
		l.Opened.Add(Monotonic() - int64(age))
	}
	b.GiveBack(0)
	if got := total(l.Duration.Buckets[:]); got != 4 || total(l.Closed[:]) != 4 {
		t.Errorf("%d durations of %d sessions closed, want 4", got, total(l.Closed[:]))
	}
	sum := time.Duration(l.Duration.Nanos.Load())
	if want := 15*time.Minute + time.Second; sum < want || sum > want+30*time.Second {
		t.Errorf("they lasted %v together, want %v", sum, want)
	}
	// An acceptor that does not say when its sessions began.
	silent := b.Listener(1, webID)
	silent.Accepted.Add(2)
	silent.Active.Add(2)
	b.GiveBack(1)
	if total(silent.Duration.Buckets[:]) != 2 || silent.Duration.Nanos.Load() != 0 {
		t.Errorf("of unknown age: %d durations of %d ns, want 2 of 0", total(silent.Duration.Buckets[:]), silent.Duration.Nanos.Load())
	}
}

func TestMeanAge(t *testing.T) {
	const born, now = 100 * time.Hour, 110 * time.Hour
	sum := func(began ...time.Duration) (opened int64) {
		for _, b := range began {
			opened += int64(b)
		}
		return opened
	}
	tests := []struct {
		name   string
		active int64
		opened int64
		want   time.Duration
	}{
		{"one", 1, sum(now - 5*time.Minute), 5 * time.Minute},
		{"three", 3, sum(now-time.Minute, now-2*time.Minute, now-12*time.Minute), 5 * time.Minute},
		{"a sum that wrapped around", 1 << 20, (1 << 20) * sum(now-time.Hour), time.Hour},
		{"as old as the board", 1, sum(born), now - born},
		{"not kept", 3, 0, 0},
		{"none", 0, 0, 0},
		{"none, as far as Active says", 0, sum(now), 0},
		{"killed before Opened was raised", 2, sum(now), 0},
		{"killed before Active was raised", 1, sum(now, now), 0},
		{"random", math.MinInt64, math.MaxInt64, 0},
	}
	for _, tt := range tests {
		if got := meanAge(tt.active, tt.opened, now, born); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// act writes what an acceptor may leave behind when it is killed: on "web" it
// died between counting a connection and raising its gauge; "quiet" lost nothing.
func act(b *Board, seat int) {
	web, quiet := b.Listener(seat, webID), b.Listener(seat, quietID)
	b.Pool(seat, poolID).Queued.Store(2)
	web.Accepted.Add(10)
	web.Taken.Add(2)
	web.HandedOff.Add(1)
	web.Rejected[RejectMaxSessions].Add(1)
	web.Closed[ReasonClientEOF].Add(5)
	web.Closed[ReasonIdleTimeout].Add(2)
	web.Active.Store(2)
	web.Opened.Store(2 * Monotonic())
	web.HalfClosed.Store(1)
	web.Waiting.Store(2)
	web.Waited[WaitClosed].Add(3)
	quiet.Accepted.Add(4)
	quiet.Closed[ReasonBackendEOF].Add(4)
	b.Target(seat, db1ID).Active.Store(2)
	self := b.Acceptor(seat)
	eachGauge(self, func(_ string, g *Gauge) { g.Store(1) })
	self.Turns.Add(1000)
	self.Hangs.Add(1)
}

// gauges are the values of all gauges of a seat, by name.
func gauges(b *Board, seat int) map[string]int64 {
	found := map[string]int64{}
	note := func(name string, g *Gauge) { found[name] = g.Load() }
	eachGauge(b.Listener(seat, webID), note)
	eachGauge(b.Pool(seat, poolID), note)
	eachGauge(b.Target(seat, db1ID), func(name string, g *Gauge) { note("Target."+name, g) })
	eachGauge(b.Acceptor(seat), note)
	return found
}

// eachGauge goes through the gauges of cells, so that a new one is not forgotten.
func eachGauge[T any](cells *T, do func(string, *Gauge)) {
	v := reflect.ValueOf(cells).Elem()
	for field, f := range v.Fields() {
		if f.Type() == reflect.TypeFor[Gauge]() {
			do(field.Name, f.Addr().Interface().(*Gauge))
		}
	}
}
