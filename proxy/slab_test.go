package proxy

import (
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// An idle session is its slot and two descriptors: the promise is 256 bytes.
func TestSessionSize(t *testing.T) {
	if n := unsafe.Sizeof(session{}); n > 128 {
		t.Errorf("a session has %d bytes", n)
	}
}

// TestSlabAgainstModel gets and puts at random: a slot is never given out twice, comes
// back cleared, and each use of it has another generation.
func TestSlabAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newSlab()
		var out []int32
		held, seen := map[int32]bool{}, map[[2]uint32]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"get": func(t *rapid.T) {
				slot, s := b.get()
				if held[slot] || s != b.at(slot) || slot >= b.slots() {
					t.Fatalf("slot %d: held already %v, of %d", slot, held[slot], b.slots())
				}
				if clear := (session{gen: s.gen, timer: unlinked, nextRun: -1}); *s != clear {
					t.Fatalf("slot %d is not cleared: %+v", slot, *s)
				}
				if use := [2]uint32{uint32(slot), s.gen}; seen[use] {
					t.Fatalf("slot %d has generation %d again", slot, s.gen)
				} else {
					seen[use] = true
				}
				held[slot] = true
				out = append(out, slot)
				s.state, s.target, s.picked = stateRelaying, 3, true
			},
			"put": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nothing is out")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				b.put(out[i])
				delete(held, out[i])
				out = append(out[:i], out[i+1:]...)
			},
			"": func(t *rapid.T) {
				if b.used != len(out) {
					t.Fatalf("used %d, want %d", b.used, len(out))
				}
			},
		})
	})
}

// Growth leaves the sessions that are there where they are.
func TestSlabGrows(t *testing.T) {
	b := newSlab()
	first, s := b.get()
	for range 3 * chunkSize {
		b.get()
	}
	if b.at(first) != s || b.slots() != 4*chunkSize {
		t.Errorf("moved: %v; %d slots", b.at(first) != s, b.slots())
	}
	for slot := range b.slots() {
		if int(slot) > 3*chunkSize && b.at(slot).state != stateFree {
			t.Errorf("slot %d is not free", slot)
		}
	}
}

// The generation stays within what an epoll event can carry beside the marks.
func TestSlabGenerationWraps(t *testing.T) {
	b := newSlab()
	slot, s := b.get()
	s.gen = genMask
	b.put(slot)
	if _, s = b.get(); int32(s.gen) != 0 {
		t.Errorf("generation %d after the last", s.gen)
	}
}

// The run list is a queue in which each session stands once.
func TestRunList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, q := newSlab(), newRunList()
		for range 10 {
			b.get()
		}
		var model []int32
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				slot := rapid.Int32Range(0, 9).Draw(t, "slot")
				if !b.at(slot).queued {
					model = append(model, slot)
				}
				q.push(&b, slot)
			},
			"pop": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				slot, s := q.pop(&b)
				if slot != model[0] || s != b.at(slot) || s.queued {
					t.Fatalf("popped %d, want %d; still queued: %v", slot, model[0], s.queued)
				}
				model = model[1:]
			},
			"": func(t *rapid.T) {
				if q.n != len(model) {
					t.Fatalf("%d queued, want %d", q.n, len(model))
				}
			},
		})
	})
}

func BenchmarkSlab(b *testing.B) {
	s := newSlab()
	for range 10_000 {
		s.get()
	}
	b.ReportAllocs()
	for range b.N {
		slot, _ := s.get()
		s.put(slot)
	}
}
