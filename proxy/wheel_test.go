package proxy

import (
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

// TestWheelAgainstModel compares the wheel with a map of deadlines: nothing early,
// nothing late, whatever is armed, disarmed and skipped, and whatever the
// callbacks themselves arm and disarm.
func TestWheelAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 20
		now := rapid.Uint32Range(0, 3*wheelSlots).Draw(t, "start")
		w := wheelOf(n, now)
		model := map[int32]uint32{} // slot: tick
		anyTick := func(label string) uint32 { return now + rapid.Uint32Range(0, 3*wheelSlots).Draw(t, label) }
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
		t.Repeat(map[string]func(*rapid.T){
			"arm":    func(t *rapid.T) { arm(slots.Draw(t, "slot"), anyTick("tick")) },
			"disarm": func(t *rapid.T) { disarm(slots.Draw(t, "slot")) },
			"advance": func(t *rapid.T) {
				now += rapid.Uint32Range(1, 3*wheelSlots).Draw(t, "ticks")
				meddle := rapid.Bool().Draw(t, "meddle")
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
			},
			"": func(t *rapid.T) {
				if w.armed != len(model) {
					t.Fatalf("%d armed, want %d", w.armed, len(model))
				}
			},
		})
	})
}

// All that are due come up, in each list the one armed last first, whether they share
// a list with others that are not due or not.
func TestWheelSharedList(t *testing.T) {
	w := wheelOf(3, 0)
	w.arm(0, 5)
	w.arm(1, 5+wheelSlots)
	w.arm(2, 5)
	var got []int32
	up := func(slot int32) { got = append(got, slot) }
	w.advance(4, up)
	w.advance(5, up)
	if !slices.Equal(got, []int32{2, 0}) {
		t.Errorf("came up: %v", got)
	}
	w.advance(5+wheelSlots-1, up)
	if len(got) != 2 {
		t.Errorf("came up a round too early: %v", got)
	}
	w.advance(5+wheelSlots, up)
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
		w.arm(int32(i%10_000), uint32(i%5000)+1)
	}
}

// A tick of a wheel that 10,000 sessions of ten minutes lie in.
func BenchmarkWheelAdvance(b *testing.B) {
	w := wheelOf(10_000, 0)
	const tenMinutes = 12_000
	for i := range int32(10_000) {
		w.arm(i, 1+uint32(i)*tenMinutes/10_000)
	}
	b.ReportAllocs()
	for i := range b.N {
		w.advance(uint32(i)+1, func(slot int32) { w.arm(slot, uint32(i)+tenMinutes) })
	}
}
