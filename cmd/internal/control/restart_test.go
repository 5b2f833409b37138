package control

import (
	"testing"
	"time"
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
