package steering

import (
	"testing"
	"time"
)

func TestForgive(t *testing.T) {
	const tick = int64(settleWindow) / 5
	type step struct {
		picked, accepted int // before a moment with an empty queue, one tick after the last
		inFlight         int64
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"handshakes count until they are accepted", []step{{3, 0, 3}, {0, 2, 1}, {0, 1, 0}}},
		{"a busy row keeps what is under way", []step{
			{0, 0, 0}, {9, 0, 9}, {9, 9, 9}, {9, 9, 9}, {0, 9, 0}, {9, 0, 9}, {9, 9, 9}, {9, 9, 9}, {9, 18, 0}, {5, 0, 5},
		}},
		{"picks that nothing comes of are forgiven after a window", []step{
			{0, 0, 0}, {7, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, // in the window they came in
			{0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 0}, // and in the next one
		}},
		{"sooner if they came as the window began", []step{{7, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 0}}},
		{"of those only: others under way still count", []step{
			{7, 0, 7}, {0, 0, 7}, {0, 0, 7}, {0, 0, 7}, {2, 0, 9}, {2, 0, 4}, {0, 4, 0},
		}},
		{"more than the most that count are forgiven at once", []step{{500, 0, 64}, {1, 0, 64}, {0, 64, 0}, {0, 100, 0}, {1, 0, 1}}},
		{"accepts that nobody picked count for nothing", []step{{0, 5, 0}, {2, 0, 2}, {0, 2, 0}}},
		{"a handshake longer than the window is forgiven, and its accept put right", []step{
			{1, 0, 1}, {0, 0, 1}, {0, 0, 1}, {0, 0, 1}, {0, 0, 1}, {0, 0, 0}, {0, 1, 0}, {1, 0, 1},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var row Row
			seat := &Seat{row: &row}
			now := int64(time.Hour)
			for i, step := range test.steps {
				row.Selected.Add(uint64(step.picked))
				for range step.accepted {
					seat.Accepted()
				}
				seat.Beat(now, true)
				if got := int64(row.Selected.Load() - row.Settled.Load()); got != step.inFlight {
					t.Fatalf("step %d: %d in flight, want %d", i, got, step.inFlight)
				}
				now += tick
			}
		})
	}
}

// While connections wait in the queue, nothing is forgiven.
func TestNothingIsForgivenInOverload(t *testing.T) {
	var row Row
	seat := &Seat{row: &row}
	row.Selected.Add(500)
	for now := int64(1); now < int64(4*settleWindow); now += int64(settleWindow) / 5 {
		seat.Beat(now, false)
	}
	if seat.Load() != 500 {
		t.Errorf("load %d, want 500", seat.Load())
	}
}

func TestSeat(t *testing.T) {
	var row Row
	seat := &Seat{row: &row}
	for _, step := range []struct {
		what            string
		do              func()
		active, load    int64
		flags, selected uint64
	}{
		{"two are picked", func() { seat.Pick(); seat.Pick() }, 0, 2, 0, 2},
		{"one comes", seat.Accepted, 1, 2, 0, 2},
		{"the other goes elsewhere", seat.Lost, 1, 1, 0, 2},
		{"one comes that the hash gave", seat.Accepted, 2, 2, 0, 2},
		{"one is passed on", func() { seat.Hold(-1) }, 1, 1, 0, 2},
		{"closed", func() { seat.Open(false) }, 1, 1, Closed, 2},
		{"leaving as well", func() { row.Flags.Or(Draining) }, 1, 1, Closed | Draining, 2},
		{"open, and still leaving", func() { seat.Open(true) }, 1, 1, Draining, 2},
	} {
		step.do()
		if row.Active.Load() != step.active || seat.Load() != step.load || row.Flags.Load() != step.flags || row.Selected.Load() != step.selected {
			t.Errorf("%s: active %d, load %d, flags %b, selected %d; want %+v", step.what,
				row.Active.Load(), seat.Load(), row.Flags.Load(), row.Selected.Load(), step)
		}
	}
}
