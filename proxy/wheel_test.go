package proxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wheelOf is a wheel over n sessions, at tick now.
func wheelOf(n int, now uint32) *wheel {
	b := newSlab()
	for range n {
		b.get()
	}
	return newWheel(&b, now)
}

// farTick draws how far away a deadline is: in each level alike, up to days.
func farTick(t *rapid.T, label string) uint32 {
	return rapid.Uint32Range(0, 1<<rapid.IntRange(0, 22).Draw(t, label+" bits")).Draw(t, label)
}

// TestWheelAgainstModel compares the wheel with a map of deadlines: nothing early,
// nothing late, and the wheel never wants to sleep past a deadline, whatever is armed,
// disarmed and skipped, and whatever the callbacks themselves arm and disarm.
func TestWheelAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 20
		now := farTick(t, "start")
		w := wheelOf(n, now)
		model := map[int32]uint32{} // slot: tick
		anyTick := func(label string) uint32 { return now + farTick(t, label) }
		slots := rapid.Int32Range(0, n-1)
		arm := func(slot int32, tick uint32) {
			w.arm(slot, tick)
			if old, armed := model[slot]; !armed || old != tick { // else it may be due in this very round
				model[slot] = max(tick, now+1)
			}
		}
		disarm := func(slot int32) {
			w.disarm(slot)
			delete(model, slot)
		}
		advance := func(t *rapid.T, to uint32, meddle bool) {
			now = to
			w.advance(now, func(slot int32) {
				tick, armed := model[slot]
				if !armed || tick > now {
					t.Fatalf("slot %d came up at %d; armed %v, for %d", slot, now, armed, tick)
				}
				delete(model, slot)
				if meddle {
					disarm(slots.Draw(t, "closed by the callback"))
					arm(slots.Draw(t, "armed by the callback"), anyTick("for"))
				}
			})
			for slot, tick := range model {
				if tick <= now {
					t.Fatalf("slot %d is late: due at %d, now %d", slot, tick, now)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"arm":    func(t *rapid.T) { arm(slots.Draw(t, "slot"), anyTick("tick")) },
			"disarm": func(t *rapid.T) { disarm(slots.Draw(t, "slot")) },
			"advance": func(t *rapid.T) {
				advance(t, now+1+farTick(t, "ticks"), rapid.Bool().Draw(t, "meddle"))
			},
			"sleep": func(t *rapid.T) { // as the loop does, and it may wake late
				for range rapid.IntRange(1, 20).Draw(t, "times") {
					if next, ok := w.next(); ok {
						advance(t, next+rapid.SampledFrom([]uint32{0, 0, 0, 1, 300}).Draw(t, "late"), false)
					}
				}
			},
			"": func(t *rapid.T) {
				if w.armed != len(model) {
					t.Fatalf("%d armed, want %d", w.armed, len(model))
				}
				next, ok := w.next()
				if ok != (len(model) > 0) || ok && next <= now {
					t.Fatalf("next is %d, %v at %d with %d armed", next, ok, now, len(model))
				}
				for slot, tick := range model {
					if tick < next {
						t.Fatalf("slot %d is due at %d, and next is %d", slot, tick, next)
					}
				}
			},
		})
	})
}

// All that are due come up, in each list the one armed last first, whether others that
// are due a round of the level later share its place in the bitmap or not.
func TestWheelSharedTick(t *testing.T) {
	w := wheelOf(3, 0)
	w.arm(0, 5)
	w.arm(1, 5+levelSlots)
	w.arm(2, 5)
	var got []int32
	up := func(slot int32) { got = append(got, slot) }
	w.advance(4, up)
	w.advance(5, up)
	if !slices.Equal(got, []int32{2, 0}) {
		t.Errorf("came up: %v", got)
	}
	w.advance(5+levelSlots-1, up)
	if len(got) != 2 {
		t.Errorf("came up a round too early: %v", got)
	}
	w.advance(5+levelSlots, up)
	if !slices.Equal(got, []int32{2, 0, 1}) || w.armed != 0 {
		t.Errorf("came up: %v; %d left", got, w.armed)
	}
}

// A process that was stopped for hours finds every deadline once.
func TestWheelAfterLongStop(t *testing.T) {
	w := wheelOf(100, 7)
	for i := range int32(100) {
		w.arm(i, 8+uint32(i)*100)
	}
	times := map[int32]int{}
	w.advance(1_000_000, func(slot int32) { times[slot]++ })
	if len(times) != 100 || w.armed != 0 {
		t.Errorf("%d of 100 came up, %d left", len(times), w.armed)
	}
	for slot, n := range times {
		if n != 1 {
			t.Errorf("slot %d came up %d times", slot, n)
		}
	}
}

// sleepThrough advances the wheel as a loop does that nothing else wakes, and returns how
// often it woke.
func sleepThrough(w *wheel, until uint32, expired func(slot int32)) (wakes int) {
	for {
		next, ok := w.next()
		if !ok || next > until {
			return wakes
		}
		w.advance(next, expired)
		wakes++
	}
}

const tenMinutes = 12_000 // ticks

// Sessions at rest wake the loop when they fall due, and once for each slot of a higher
// level that some of them lie in.
func TestWheelWakesForWhoIsDue(t *testing.T) {
	const day = 24 * 6 * tenMinutes
	for _, test := range []struct {
		name     string
		sessions int
		timeout  uint32
		opened   uint32 // over this many ticks
		moves    int    // slots of higher levels
	}{
		{"none", 0, tenMinutes, 1, 0},
		{"9,000 in a second", 9000, tenMinutes, 20, 9000/movesPerTick + 2}, // 20 ticks are due
		{"9,000 in ten minutes", 9000, tenMinutes, tenMinutes, tenMinutes/256 + 2},
		{"9,000 of a day", 9000, day, tenMinutes, tenMinutes/256 + 9000/movesPerTick + 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := wheelOf(test.sessions, 0)
			due := map[uint32]bool{}
			for i := range int32(test.sessions) {
				tick := test.timeout + uint32(i)*test.opened/uint32(test.sessions)
				w.arm(i, tick)
				due[tick] = true
			}
			up := 0
			wakes := sleepThrough(w, 2*day, func(slot int32) { up++ })
			if up != test.sessions || wakes < len(due) || wakes > len(due)+test.moves {
				t.Errorf("%d of %d came up in %d wake-ups, want %d and at most %d more", up, test.sessions, wakes, len(due), test.moves)
			}
		})
	}
}

// However many sessions lie in one slot of a higher level, a tick moves only its share of
// them, and all of them are in their places in time: none is left to be moved at once.
func TestWheelMovesAFewAtATime(t *testing.T) {
	const block = tenMinutes >> levelBits
	const begin = block << levelBits
	for _, n := range []int{1000, 100_000, 300_000} {
		w := wheelOf(n, 0)
		for i := range int32(n) {
			w.arm(i, begin+uint32(i)%64)
		}
		list := listOf(1, block)
		left := func() (count int) {
			for slot := w.heads[list]; slot >= 0; slot = w.slab.at(slot).timer.next {
				count++
			}
			return count
		}
		before := left()
		if before != n {
			t.Fatalf("%d of %d lie in the slot", before, n)
		}
		for before > 0 {
			next, _ := w.next()
			w.advance(next, func(slot int32) { t.Fatalf("slot %d came up at %d", slot, w.now) })
			after := left()
			if moved := before - after; moved > max(movesPerTick, n/90) {
				t.Fatalf("%d of %d were moved at tick %d", moved, n, w.now)
			}
			before = after
		}
		if w.now>>levelBits != block-1 {
			t.Errorf("%d sessions were moved by tick %d", n, w.now)
		}
		up := 0
		if wakes := sleepThrough(w, begin+64, func(int32) { up++ }); wakes != 64 || up != n {
			t.Errorf("%d of %d came up in %d wake-ups, want 64", up, n, wakes)
		}
	}
}

// A deadline of d is never early, and at most two ticks late when d is a whole number
// of them.
func TestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(0, 1<<40).Draw(t, "now")
		d := rapid.Int64Range(0, 1<<40).Draw(t, "d")
		tick := now/int64(tickLength) + int64(ticks(time.Duration(d)))
		if at := tick * int64(tickLength); at < now+d || at >= now+d+2*int64(tickLength) {
			t.Fatalf("now %d, d %d: comes up at %d", now, d, at)
		}
	})
	if ticks(1<<62) > 1<<31 {
		t.Error("a limit of 146 years has wrapped round")
	}
}

func BenchmarkWheelArm(b *testing.B) {
	w := wheelOf(10_000, 0)
	b.ReportAllocs()
	for i := range b.N {
		w.arm(int32(i%10_000), uint32(i%4999)+1) // each time another
	}
}

// A tick of a wheel that 10,000 sessions of ten minutes lie in.
func BenchmarkWheelAdvance(b *testing.B) {
	w := wheelOf(10_000, 0)
	for i := range int32(10_000) {
		w.arm(i, 1+uint32(i)*tenMinutes/10_000)
	}
	b.ReportAllocs()
	for i := range b.N {
		w.advance(uint32(i)+1, func(slot int32) { w.arm(slot, uint32(i)+tenMinutes) })
	}
}

func BenchmarkWheelNext(b *testing.B) {
	for _, far := range []uint32{1, 500, tenMinutes, 1 << 30} {
		b.Run(fmt.Sprintf("ticks=%d", far), func(b *testing.B) {
			w := wheelOf(1, 0)
			w.arm(0, far)
			for range b.N {
				w.next()
			}
		})
	}
}

// 100,000 sessions of ten minutes, all of one second: the longest tick before they are due,
// in the median run, as this machine may take the CPU away in any tick. At once is what a
// loop does that slept over all these ticks.
func BenchmarkWheelMove(b *testing.B) {
	const n = 100_000
	const block = tenMinutes >> levelBits << levelBits
	order := rand.New(rand.NewPCG(1, 2)).Perm(n) // neighbours in the list are none in memory
	for name, step := range map[string]func(next uint32) uint32{
		"few": func(next uint32) uint32 { return next }, "at once": func(uint32) uint32 { return block },
	} {
		b.Run(name, func(b *testing.B) {
			w := wheelOf(n, 0)
			var longest []time.Duration
			ticks := 0
			for range b.N {
				w.now = 0
				for i, slot := range order {
					w.arm(int32(slot), block+1+uint32(i)%20)
				}
				longest = append(longest, 0)
				for next, _ := w.next(); next <= block; next, _ = w.next() {
					start := time.Now()
					w.advance(step(next), nil)
					longest[len(longest)-1] = max(longest[len(longest)-1], time.Since(start))
					ticks++
				}
				for slot := range int32(n) {
					w.disarm(slot)
				}
			}
			slices.Sort(longest)
			b.ReportMetric(float64(longest[len(longest)/2].Nanoseconds()), "ns/longest-tick")
			b.ReportMetric(float64(ticks)/float64(b.N), "ticks")
		})
	}
}
