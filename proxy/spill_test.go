package proxy

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/metrics"
)

// TestSpillsAgainstModel keeps, delivers in parts and gives back at random: nothing
// is mixed up, and the cell tells the memory that is held.
func TestSpillsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cells := new(metrics.AcceptorCells)
		h := spills{cells: cells}
		rests := map[int32][]byte{} // ref: what is not delivered
		t.Repeat(map[string]func(*rapid.T){
			"keep": func(t *rapid.T) {
				b := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "bytes")
				ref := h.keep(b)
				if ref <= 0 || rests[ref] != nil {
					t.Fatalf("reference %d, in use: %v", ref, rests[ref] != nil)
				}
				rests[ref] = bytes.Clone(b)
				clear(b)
			},
			"deliver": func(t *rapid.T) {
				for _, ref := range slices.Sorted(maps.Keys(rests)) {
					rest := rests[ref]
					if got := h.last(ref, int32(len(rest))); !bytes.Equal(got, rest) {
						t.Fatalf("%d holds %x, want %x", ref, got, rest)
					}
					rests[ref] = rest[rapid.IntRange(0, len(rest)-1).Draw(t, "taken"):]
				}
			},
			"give back": func(t *rapid.T) {
				if len(rests) == 0 {
					t.Skip("nothing is kept")
				}
				ref := rapid.SampledFrom(slices.Sorted(maps.Keys(rests))).Draw(t, "which")
				h.giveBack(ref)
				delete(rests, ref)
			},
			"": func(t *rapid.T) {
				if got, want := cells.SpillBytes.Load(), int64(len(rests)*bufferSize); got != want {
					t.Fatalf("%d bytes counted, want %d", got, want)
				}
				if len(h.spare) > spareSpills {
					t.Fatalf("%d spare buffers", len(h.spare))
				}
			},
		})
	})
}
