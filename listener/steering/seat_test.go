package steering

import (
	"sync"
	"testing"
	"time"
)

func TestForgive(t *testing.T) {
	const tick = int64(settleWindow) / 5
	type step struct {
		picked, accepted int // since the last beat, one tick ago, in a turn that began with an empty queue
		inFlight, load   int64
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"handshakes count until they are accepted", []step{{3, 0, 3, 3}, {0, 2, 1, 3}, {0, 1, 0, 3}}},
		{"a busy row keeps what is under way", []step{
			{0, 0, 0, 0}, {9, 0, 9, 9}, {9, 9, 9, 18}, {9, 9, 9, 27}, {0, 9, 0, 27}, {9, 0, 9, 36}, {9, 9, 9, 45}, {9, 9, 9, 54}, {9, 18, 0, 63}, {5, 0, 5, 68},
		}},
		{"picks that nothing comes of are forgiven after a window", []step{
			{0, 0, 0, 0}, {7, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, // in the window they came in
			{0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 0, 0}, // and in the next one
		}},
		{"of those only: others under way still count", []step{
			{7, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7},
			{0, 0, 7, 7}, {0, 0, 7, 7}, {0, 0, 7, 7}, {2, 0, 9, 9}, {2, 0, 4, 4}, {0, 4, 0, 4},
		}},
		{"what came since the last beat may wait in the queue already, however much", []step{{500, 0, 500, 500}, {500, 500, 500, 1000}, {0, 500, 0, 1000}}},
		{"more handshakes than the most that count are forgiven at once", []step{{500, 0, 500, 500}, {1, 0, 65, 65}, {0, 65, 0, 65}, {0, 100, 0, 165}, {1, 0, 1, 166}}},
		{"accepts that nobody picked are held all the same", []step{{0, 5, 0, 5}, {2, 0, 2, 7}, {0, 2, 0, 7}}},
		{"a handshake longer than the window is forgiven, and its accept put right", []step{
			{1, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1},
			{0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 1, 2},
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
				out := seat.Beat(now, true)
				if inFlight, load := seat.row.inFlight(), seat.Load(); inFlight != step.inFlight || load != step.load || out != (inFlight > 0) {
					t.Fatalf("step %d: %d in flight, told %t, load %d; want %+v", i, inFlight, out, load, step)
				}
				now += tick
			}
		})
	}
}

// Steering compares loads while connections are accepted: it must see each of
// them exactly once.
func TestAcceptLeavesTheLoadAlone(t *testing.T) {
	const n = 200_000
	var row Row
	row.Selected.Store(n)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for seat := (&Seat{row: &row}); seat.row.inFlight() > 0; {
			seat.Accepted()
		}
	})
	for seat := (&Seat{row: &row}); heldBy(&row) < n; {
		if load := seat.Load(); load != n {
			t.Fatalf("load %d while %d are accepted", load, n)
		}
	}
	accepting.Wait()
}

// A rescuer took one that the hash gave while the owner took one that was picked,
// and both saw the same pick in flight.
func TestTwoTakenForOnePick(t *testing.T) {
	row := Row{}
	seat := &Seat{row: &row}
	seat.Pick()
	row.Settled.Add(1) // by the owner, who holds it
	seat.settle(1)     // by the rescuer, who looked before that
	if seat.Load() != 0 {
		t.Fatalf("load %d: the two did not collide", seat.Load())
	}
	seat.Beat(1, true)
	if seat.Load() != 1 || heldBy(&row) != 1 {
		t.Errorf("load %d, held %d; want 1", seat.Load(), heldBy(&row))
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
		held, load      int64
		flags, selected uint64
	}{
		{"two are picked", func() { seat.Pick(); seat.Pick() }, 0, 2, 0, 2},
		{"one comes", seat.Accepted, 1, 2, 0, 2},
		{"the other goes elsewhere", seat.Lost, 1, 1, 0, 2},
		{"one comes that the hash gave", seat.Accepted, 2, 2, 0, 2},
		{"a sibling takes one that the hash gave", seat.Lost, 2, 2, 0, 2},
		{"one is passed on", func() { seat.Hold(-1) }, 1, 1, 0, 2},
		{"closed", func() { seat.Open(false) }, 1, 1, Closed, 2},
		{"leaving as well", func() { row.Flags.Or(Draining) }, 1, 1, Closed | Draining, 2},
		{"open, and still leaving", func() { seat.Open(true) }, 1, 1, Draining, 2},
	} {
		step.do()
		if heldBy(&row) != step.held || seat.Load() != step.load || row.Flags.Load() != step.flags || row.Selected.Load() != step.selected {
			t.Errorf("%s: held %d, load %d, flags %b, selected %d; want %+v", step.what,
				heldBy(&row), seat.Load(), row.Flags.Load(), row.Selected.Load(), step)
		}
	}
}
