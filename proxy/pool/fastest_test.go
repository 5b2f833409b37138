package pool

import (
	"testing"
	"time"
)

// Targets that take so long for a connection: the slow one gets the fewer sessions at a
// time the slower it is, and none is forgotten.
func TestFastestSharesByConnectTime(t *testing.T) {
	times := []time.Duration{time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond}
	p := weighted(Fastest, equal(len(times))...)
	b := boardOf(p)
	k := b.picker(p, 3)
	for i := range times {
		b.speeds[i].Observe(time.Duration(b.clock), times[i])
	}
	const sessions = 1500
	for range sessions {
		b.held[k.Pick(nil, anyone)].Add(1)
	}
	// Two are drawn of which one is picked: 1/2 of all is the most that one can get. The
	// others come level: time x sessions is the same for all.
	for i := 1; i < len(times); i++ {
		before, now := b.held[i-1].Load(), b.held[i].Load()
		if now >= before || now < sessions/30 {
			t.Errorf("of %d sessions %v holds %d and %v %d", sessions, times[i-1], before, times[i], now)
		}
	}
}

// A peak counts at once, is forgotten with time, and the target is tried again.
func TestFastestForgivesWithTime(t *testing.T) {
	p := weighted(Fastest, 1, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	slow := func() (n int) {
		for range 100 {
			n += k.Pick(nil, anyone)
		}
		return n
	}
	for range 20 {
		b.speeds[0].Observe(time.Duration(b.clock), time.Millisecond)
		b.speeds[1].Observe(time.Duration(b.clock), time.Millisecond)
	}
	b.speeds[1].Observe(time.Duration(b.clock), 50*time.Millisecond)
	if n := slow(); n != 0 {
		t.Errorf("one that has just been slow got %d of 100", n)
	}
	for range 60 { // a minute in which only the other is heard of
		b.clock += int64(time.Second)
		b.speeds[0].Observe(time.Duration(b.clock), time.Millisecond)
	}
	if n := slow(); n != 100 {
		t.Errorf("one that was slow a minute ago got %d of 100, want all: it is to be tried again", n)
	}
	b.speeds[1].Observe(time.Duration(b.clock), 2*time.Millisecond)
	if n := slow(); n != 0 {
		t.Errorf("it is still slower, and got %d of 100", n)
	}
}

// One of which nothing is known gets a session to begin with, and no crowd.
func TestFastestTriesTheUnknown(t *testing.T) {
	p := weighted(Fastest, 1, 1)
	b := boardOf(p)
	k := b.picker(p, 0)
	b.speeds[0].Observe(time.Duration(b.clock), time.Millisecond)
	for i, want := range []int{1, 0, 0, 0, 0} {
		got := k.Pick(nil, anyone)
		if got != want {
			t.Errorf("session %d went to %d, want %d", i, got, want)
		}
		b.held[got].Add(1)
	}
}
