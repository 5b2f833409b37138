package metrics

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

func TestCellsArePlaces(t *testing.T) {
	b := newBoard(t)
	web := b.Listener(3, webID)
	web.Accepted.Add(7)
	if again := b.Listener(3, webID); again != web {
		t.Errorf("asked again: %p, want %p", again, web)
	}
	for name, other := range map[string]*ListenerCells{"seat": b.Listener(2, webID), "index": b.Listener(3, quietID)} {
		if other == web || other.Accepted.Load() != 0 {
			t.Errorf("another %s: %p, want fresh cells", name, other)
		}
	}
}

// TestPlacesDoNotOverlap numbers the first and the last word of cells at the edges
// of pages and of tables in every stripe, and of the shared tables: all keep their
// number.
func TestPlacesDoNotOverlap(t *testing.T) {
	b := newBoard(t)
	parts := map[uintptr][]uint64{
		0: b.words(0, headerSize), heldAt: b.words(heldAt, MaxTargets*8), weightsAt: b.words(weightsAt, MaxTargets*8),
		failingAt: b.words(failingAt, MaxTargets*8), speedsAt: b.words(speedsAt, MaxTargets*8), limitsAt: b.words(limitsAt, MaxTargets*8),
		queueAt(0): b.words(queueAt(0), queueStride), queueAt(MaxPools - 1): b.words(queueAt(MaxPools-1), queueStride),
	}
	for stripe := range stripes {
		for _, table := range []table{acceptorTable, listenerTable, poolTable, targetTable, routeTable} {
			perPage := uint32(table.perPage)
			for _, index := range []uint32{0, perPage - 1, perPage, table.places - 1} {
				at := table.place(stripe, min(index, table.places-1))
				if at/pageUnit != (at+table.size-1)/pageUnit {
					t.Errorf("%s %d lies on two pages", table.name, index)
				}
				parts[at] = b.words(at, table.size)
			}
		}
		if start := acceptorTable.place(stripe, 0); start%pageAlign != 0 {
			t.Errorf("stripe %d starts at %d, within a page", stripe, start)
		}
	}
	for at, p := range parts {
		p[0], p[len(p)-1] = uint64(at), uint64(at)
	}
	for at, p := range parts {
		if p[0] != uint64(at) || p[len(p)-1] != uint64(at) {
			t.Errorf("what lies at %d was written over: %d, %d", at, p[0], p[len(p)-1])
		}
	}
}

func TestOutOfRangePanics(t *testing.T) {
	b := newBoard(t)
	tests := []struct {
		want string
		do   func()
	}{
		{"acceptor 0 in stripe -1", func() { b.Acceptor(-1) }},
		{"no seat 64", func() { b.Acceptor(MaxAcceptors) }},
		{"target 0 in stripe 65", func() { b.Target(MaxAcceptors+1, db1ID) }},
		{"listener 4096", func() { b.Listener(0, NewID(MaxListeners, 0)) }},
		{"pool 65535", func() { b.Pool(0, NewID(65535, 0)) }},
		{"listener 5000", func() { b.OpenListener(NewID(5000, 1)) }},
		{"no seat 64", func() { b.GiveBack(MaxAcceptors) }},
		{"no seat 64", func() { b.Retire(MaxAcceptors) }},
		{"index 65536", func() { NewID(MaxTargets, 0) }},
		{"generation 281474976710656", func() { NewID(0, 1<<48) }},
	}
	for _, tt := range tests {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, tt.want) {
					t.Errorf("panicked with %q, want %q in it", got, tt.want)
				}
			}()
			tt.do()
		}()
	}
	if b.used.listeners != 0 {
		t.Error("a refused listener counts as opened")
	}
	if NewID(4096, 7).Valid(MaxListeners) || !NewID(4095, 7).Valid(MaxListeners) || !NewID(65535, 7).Valid(MaxTargets) {
		t.Error("Valid is wrong about the bounds")
	}
	if id := NewID(65535, 1<<48-1); id.Index() != 65535 || id.Generation() != 1<<48-1 {
		t.Errorf("the highest ID has index %d, generation %d", id.Index(), id.Generation())
	}
}

func TestTwoMappingsShareCells(t *testing.T) {
	owner := newBoard(t)
	worker := openAgain(t, owner)
	pairs := map[string][2]*Gauge{
		"listener": {&owner.Listener(63, webID).Active, &worker.Listener(63, webID).Active},
		"pool":     {(*Gauge)(unsafe.Pointer(owner.Pool(0, poolID))), (*Gauge)(unsafe.Pointer(worker.Pool(0, poolID)))},
		"target":   {&owner.Target(0, NewID(65535, 1)).Active, &worker.Target(0, NewID(65535, 1)).Active},
		"acceptor": {&owner.Acceptor(5).Parked, &worker.Acceptor(5).Parked},
		"held":     {&owner.Held()[65535], &worker.Held()[65535]},
		"weight":   {&owner.Weights()[0], &worker.Weights()[0]},
	}
	for name, pair := range pairs {
		pair[0].Add(2)
		pair[1].Add(3)
		if got := pair[0].Load(); got != 5 || pair[0] == pair[1] {
			t.Errorf("%s: the same cell in two mappings holds %d, want 5", name, got)
		}
	}
}

func TestBoardCostsWhatIsTouched(t *testing.T) {
	b := newBoard(t)
	for seat := range 4 {
		b.Acceptor(seat).Turns.Add(1)
		for i := range 4 {
			b.Listener(seat, NewID(uint32(i), 1)).Accepted.Add(1)
		}
		b.Pool(seat, poolID).Retries.Add(1)
		b.Target(seat, db1ID).Attempts.Add(1)
	}
	// The header, and three pages a seat.
	if got, limit := allocatedBytes(t, b.FD()), int64((1+4*3)*os.Getpagesize()); got > limit {
		t.Errorf("four seats with four listeners, a pool and a target occupy %d bytes of memory, want at most %d", got, limit)
	}
}

func TestBoardCannotShrink(t *testing.T) {
	b := newBoard(t)
	if err := truncate(b.FD(), 0); err == nil {
		t.Error("a mapped board was cut to 0 bytes")
	}
}

func TestOpenBoardRefuses(t *testing.T) {
	before := openDescriptors(t)
	tests := []struct {
		name string
		fd   func(t *testing.T) int
		want string
	}{
		{"closed", func(t *testing.T) int { return 1 << 20 }, "fstat: bad file descriptor"},
		{"not a board", func(t *testing.T) int { return tempFile(t, 0) }, "not a board: 0 bytes"},
		{"too small", func(t *testing.T) int { return tempFile(t, int64(boardSize-1)) }, fmt.Sprintf("%d bytes, want %d", boardSize-1, boardSize)},
		{"no magic", func(t *testing.T) int { return tempFile(t, int64(boardSize)) }, "wrong magic number"},
		{"other layout", func(t *testing.T) int {
			b := newBoard(t)
			b.header().version = layoutVersion + 1
			return dupUntilEnd(t, b.FD())
		}, fmt.Sprintf("layout %d, want %d", layoutVersion+1, layoutVersion)},
		{"damaged", func(t *testing.T) int {
			b := newBoard(t)
			b.header().size--
			return dupUntilEnd(t, b.FD())
		}, "damaged header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenBoard(tt.fd(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors after, %d before", after, before)
	}
}
