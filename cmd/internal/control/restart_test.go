package control

import (
	"log/slog"
	"slices"
	"testing"
	"time"

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

// What a worker rescues is known while it is dead: its successor is told.
func TestRescuesOutliveTheWorker(t *testing.T) {
	s := newSupervisor(slog.New(slog.DiscardHandler), nil, nil, make([]proxy.Options, 3), time.Second, newReaper())
	s.rescue(0, 1, true)
	s.rescue(0, 2, true)
	s.rescue(0, 1, false)
	if got := s.all[0].rescued(); !slices.Equal(got, []int{2}) {
		t.Errorf("%v, want [2]", got)
	}
}
