package host

import (
	"testing"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

func TestRestartPause(t *testing.T) {
	const soon = 20 * time.Millisecond
	var last time.Duration
	for i, row := range []struct{ lived, want time.Duration }{
		{time.Hour, 0}, // a worker that dies after long service: its queue waits
		{steadyAfter, 0},
		{soon, 100 * time.Millisecond}, // a crash loop
		{soon, 200 * time.Millisecond},
		{0, 400 * time.Millisecond},
		{soon, 800 * time.Millisecond},
		{soon, 1600 * time.Millisecond},
		{soon, 3200 * time.Millisecond},
		{soon, 6400 * time.Millisecond},
		{soon, 10 * time.Second},
		{soon, 10 * time.Second},
		{steadyAfter, 0}, // it is over
		{soon, 100 * time.Millisecond},
	} {
		if last = restartPause(last, row.lived); last != row.want {
			t.Errorf("death %d, after %v: %v, want %v", i, row.lived, last, row.want)
		}
	}
}

// What a worker dies of twice on its way to it is refused. Once may be chance.
func TestDeathByOrders(t *testing.T) {
	b, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	e, err := newEdition(Orders{
		Plan: &proxy.Plan{Generation: 1, Seats: []proxy.Seat{{Number: 3}}}, Settings: make([]proxy.Settings, 4),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.New()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	s := newSupervisor(Options{Board: b, Journal: j}, newReaper())
	w := s.newWorkerLocked(3)
	s.inForce, s.prepared, s.verdicts = e, &edition{Orders: e.Orders, seats: e.seats}, make(chan verdict, 9)
	for _, row := range []struct {
		name string
		told told
		err  string
	}{
		{"on the way to something else", told{latest: e}, ""},
		{"when it had bound it", told{latest: s.prepared, bound: s.prepared}, ""},
		{"on its way", told{latest: s.prepared}, ""},
		{"before it has heard of it", told{}, ""},
		{"on its way again", told{latest: s.prepared}, "killed"},
	} {
		w.told = row.told
		s.bury(w, "killed")
		var v verdict
		select {
		case v = <-s.verdicts:
		default:
		}
		if (v.err == nil) != (row.err == "") || v.err != nil && (v.err.Error() != row.err || v.seat != 3 || v.on != s.prepared) {
			t.Errorf("%s: %+v", row.name, v)
		}
	}
}
