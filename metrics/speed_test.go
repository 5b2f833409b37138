package metrics

import (
	"math"
	"sync"
	"testing"
	"time"
)

func TestSpeed(t *testing.T) {
	var s Speed
	now := 100 * 24 * time.Hour // its milliseconds do not fit into 32 bits
	at := func(what string, want time.Duration) {
		t.Helper()
		if got := s.At(now); math.Abs(got-float64(want)) > float64(want)/1000+1 {
			t.Errorf("%s: %v, want %v", what, time.Duration(got), want)
		}
	}
	at("at first", 0)
	s.Observe(now, time.Millisecond)
	at("one connection", time.Millisecond)
	s.Observe(now, 20*time.Millisecond)
	at("a peak", 20*time.Millisecond)
	s.Observe(now, time.Millisecond)
	at("a fast one at the same time", 20*time.Millisecond)
	now += speedFades
	s.Observe(now, time.Millisecond)
	at("a fast one later", 7990*time.Microsecond)
	now += 20 * speedFades
	at("much later", 1) // known, and all but forgotten
	s.Observe(now, time.Hour)
	at("longer than can be noted", math.MaxUint32)
	now -= time.Second
	at("of the future", math.MaxUint32)
}

func TestSpeedIsShared(t *testing.T) {
	b := newBoard(t)
	other := openAgain(t, b)
	var all sync.WaitGroup
	for _, b := range []*Board{b, other} {
		all.Go(func() {
			for n := range 1000 {
				b.Speeds()[7].Observe(time.Hour, time.Duration(n))
			}
		})
	}
	all.Wait()
	if got := b.Speeds()[7].At(time.Hour); got != 999 {
		t.Errorf("the peak of both is %v, want 999", got)
	}
	b.OpenTarget(NewID(7, 2))
	if got := other.Speeds()[7].At(time.Hour); got != 0 {
		t.Errorf("another target begins with %v", got)
	}
}
