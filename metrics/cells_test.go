package metrics

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

const cacheLine = 64

var cellTypes = []reflect.Type{
	reflect.TypeFor[ListenerCells](),
	reflect.TypeFor[TargetCells](),
	reflect.TypeFor[PoolCells](),
	reflect.TypeFor[AcceptorCells](),
}

func TestCellsFillCacheLines(t *testing.T) {
	for _, typ := range cellTypes {
		if typ.Size()%cacheLine != 0 {
			t.Errorf("%s has %d bytes, %d more than whole cache lines", typ, typ.Size(), typ.Size()%cacheLine)
		}
		onlyWords(t, typ.Name(), typ)
	}
}

// onlyWords holds that nothing but 8-byte atomics, and padding, is inside.
func onlyWords(t *testing.T, name string, typ reflect.Type) {
	switch {
	case typ == reflect.TypeFor[Counter](), typ == reflect.TypeFor[Gauge]():
	case typ.Kind() == reflect.Array:
		onlyWords(t, name+"[]", typ.Elem())
	case typ.Kind() == reflect.Struct:
		for f := range typ.Fields() {
			if f.Name == "_" && f.Type.Elem().Kind() == reflect.Uint64 {
				continue
			}
			onlyWords(t, name+"."+f.Name, f.Type)
		}
	default:
		t.Errorf("%s is a %s, not an 8-byte atomic", name, typ)
	}
}

// TestLayout fails when a process of the last release would misread the board.
// A field that came out of padding and a new word need only -update; everything
// else a new layoutVersion as well.
func TestLayout(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "layout %d\n", layoutVersion)
	fmt.Fprintf(&out, "\nheld %d\nweights %d\nfailing %d\nspeeds %d\nlimits %d\npanics %d\nqueues %d x %d\nstripes %d x %d\nacceptor %d\nlisteners %d x %d\npools %d x %d\ntargets %d x %d\nroutes %d x %d\nboard %d\n",
		heldAt, weightsAt, failingAt, speedsAt, limitsAt, panicsAt, queuesAt, queueStride, stripesAt, stripes, acceptorAt, listenersAt, MaxListeners, poolsAt, MaxPools, targetsAt, MaxTargets, routesAt, MaxRoutes, boardSize)
	for _, typ := range append([]reflect.Type{reflect.TypeFor[header](), reflect.TypeFor[RouteCells]()}, cellTypes...) {
		fmt.Fprintf(&out, "\n%s %d\n", typ.Name(), typ.Size())
		for f := range typ.Fields() {
			fmt.Fprintf(&out, "%6d %4d %s\n", f.Offset, f.Type.Size(), f.Name)
		}
	}
	for _, words := range [][]string{reasonNames[:], acceptErrorNames[:], rejectNames[:], connectErrorNames[:], pathNames[:], waitEndNames[:], probeEndNames[:], ejectReasonNames[:], queueEndNames[:]} {
		fmt.Fprintf(&out, "\n%s\n", strings.Join(words, " "))
	}
	fmt.Fprintf(&out, "\n%v\n%v\n", DurationBuckets, LatencyBuckets)
	golden(t, "layout.txt", []byte(out.String()))
}

func TestWords(t *testing.T) {
	for _, words := range [][]string{reasonNames[:], acceptErrorNames[:], rejectNames[:], connectErrorNames[:], pathNames[:], waitEndNames[:], probeEndNames[:], ejectReasonNames[:], queueEndNames[:]} {
		seen := map[string]bool{}
		for _, w := range words {
			if w == "" || seen[w] {
				t.Errorf("word %q of %q is empty or there twice", w, words)
			}
			seen[w] = true
		}
	}
	if got := ReasonWorkerDied.String(); got != "worker_died" {
		t.Errorf("ReasonWorkerDied is %q", got)
	}
	if got := Reason(200).String(); got != "unknown" {
		t.Errorf("a reason that is not there is %q", got)
	}
}

func TestObserve(t *testing.T) {
	tests := []struct {
		took   time.Duration
		bucket int
	}{
		{-time.Second, 0}, // a clock that went back
		{0, 0},
		{100 * time.Microsecond, 0}, // a bound belongs to its bucket
		{100*time.Microsecond + 1, 1},
		{time.Second, 12},
		{5 * time.Second, 14},
		{5*time.Second + 1, 15},
		{time.Hour, 15},
	}
	for _, tt := range tests {
		var h LatencyHistogram
		h.Observe(tt.took)
		for i := range h.Buckets {
			want := uint64(0)
			if i == tt.bucket {
				want = 1
			}
			if got := h.Buckets[i].Load(); got != want {
				t.Errorf("%v: bucket %d holds %d, want %d", tt.took, i, got, want)
			}
		}
		if got, want := h.Nanos.Load(), uint64(max(tt.took, 0)); got != want {
			t.Errorf("%v: sum %d ns, want %d", tt.took, got, want)
		}
	}
}

func TestCellWritesDoNotAllocate(t *testing.T) {
	b := newBoard(t)
	l := b.Listener(0, webID)
	allocs := testing.AllocsPerRun(100, func() {
		l.Accepted.Add(1)
		l.Active.Add(1)
		l.Closed[ReasonClientEOF].Add(1)
		l.Duration.Observe(3 * time.Second)
		l.Wait.Observe(time.Millisecond)
		l.Active.Add(-1)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per session, want 0", allocs)
	}
}

// What one count costs an acceptor.
func BenchmarkCounterAdd(b *testing.B) {
	l := newBoard(b).Listener(0, webID)
	for b.Loop() {
		l.Accepted.Add(1)
	}
}

func BenchmarkObserve(b *testing.B) {
	l := newBoard(b).Listener(0, webID)
	for b.Loop() {
		l.Duration.Observe(3 * time.Second)
	}
}

func TestCellsAreAligned(t *testing.T) {
	b := newBoard(t)
	for i := range 3 {
		id := NewID(uint32(i), 1)
		for _, p := range []unsafe.Pointer{
			unsafe.Pointer(b.Listener(i, id)), unsafe.Pointer(b.Pool(i, id)), unsafe.Pointer(b.Target(i, id)), unsafe.Pointer(b.Acceptor(i)),
		} {
			if uintptr(p)%cacheLine != 0 {
				t.Errorf("cells at %p do not start on a cache line", p)
			}
		}
	}
	// What the control plane writes is on another line than what the acceptor writes.
	if at := unsafe.Offsetof(AcceptorCells{}.Hung); at%cacheLine != 0 {
		t.Errorf("Hung is %d bytes into a cache line", at%cacheLine)
	}
}
