package metrics

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func newBoard(t testing.TB) *Board {
	t.Helper()
	b, err := NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// openAgain maps the board a second time, as a worker would.
func openAgain(t *testing.T, b *Board) *Board {
	t.Helper()
	w, err := OpenBoard(dup(t, b.FD()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestBoardKeepsCellsForLife(t *testing.T) {
	b := newBoard(t)
	web, err := b.Listener("web", 3)
	if err != nil {
		t.Fatal(err)
	}
	web.Accepted.Add(7)
	if again, err := b.Listener("web", 3); err != nil || again != web {
		t.Errorf("asked again: %p, %v; want %p", again, err, web)
	}
	// Everything that differs in one part of its name is another series.
	for name, ask := range map[string]func() (*ListenerCells, error){
		"acceptor": func() (*ListenerCells, error) { return b.Listener("web", 2) },
		"name":     func() (*ListenerCells, error) { return b.Listener("we", 3) },
	} {
		if other, err := ask(); err != nil || other == web || other.Accepted.Load() != 0 {
			t.Errorf("another %s: %p, %v; want fresh cells", name, other, err)
		}
	}
	// Two names run into one another on the board; their lengths keep them apart.
	ab, err1 := b.Backend("a", "bc", 0)
	abc, err2 := b.Backend("ab", "c", 0)
	if err1 != nil || err2 != nil || ab == abc {
		t.Errorf("backends a/bc and ab/c: %p %v, %p %v; want two", ab, err1, abc, err2)
	}
}

func TestOnlyTheOwnerMakesCells(t *testing.T) {
	owner := newBoard(t)
	worker := openAgain(t, owner)

	ask := map[string]func(*Board) error{
		"listener": func(b *Board) error { _, err := b.Listener("web", 0); return err },
		"backend":  func(b *Board) error { _, err := b.Backend("pool", "db:5432", 0); return err },
		"pool":     func(b *Board) error { _, err := b.Pool("pool", 0); return err },
		"acceptor": func(b *Board) error { _, err := b.Acceptor(0); return err },
	}
	for name, f := range ask {
		if err := f(worker); !errors.Is(err, ErrNoCells) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s, worker first: %v, want ErrNoCells and its name", name, err)
		}
		if err := f(owner); err != nil {
			t.Errorf("%s, owner: %v", name, err)
		}
		if err := f(worker); err != nil {
			t.Errorf("%s, worker after the owner: %v", name, err)
		}
	}

	mine, _ := owner.Listener("web", 0)
	theirs, _ := worker.Listener("web", 0)
	mine.Accepted.Add(2)
	theirs.Accepted.Add(3)
	if got := mine.Accepted.Load(); got != 5 {
		t.Errorf("the same cell in two mappings holds %d, want 5", got)
	}
}

func TestSuccessorTakesOver(t *testing.T) {
	old := newBoard(t)
	successor := openAgain(t, old)
	successor.TakeOver()
	if _, err := successor.Listener("new", 0); err != nil {
		t.Errorf("successor: %v", err)
	}
	if _, err := old.Listener("other", 0); !errors.Is(err, ErrNoCells) {
		t.Errorf("predecessor: %v, want ErrNoCells", err)
	}
	old.TakeOver() // the successor failed
	if _, err := old.Listener("other", 0); err != nil {
		t.Errorf("predecessor that took the board back: %v", err)
	}
}

func TestNames(t *testing.T) {
	b := newBoard(t)
	long := strings.Repeat("x", maxName)
	if _, err := b.Backend(long, long, 1); err != nil {
		t.Errorf("two names of %d bytes: %v", maxName, err)
	}
	for s := range openAgain(t, b).Backends() {
		if want := (Series{Acceptor: 1, Pool: long, Name: long}); s != want {
			t.Errorf("read back %+v", s)
		}
	}
	if _, err := b.Listener(long+"x", 0); err == nil || !strings.Contains(err.Error(), "256 bytes, at most 255") {
		t.Errorf("a name of 256 bytes: %v, want an error that says so", err)
	}
}

func TestFullBoard(t *testing.T) {
	b := newBoard(t)
	if _, err := b.Listener("web", 0); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	err := b.appendLocked(key{kindPool, Series{Name: "all the rest"}}, boardSize-4*cacheLine-int(b.header().end.Load()))
	b.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listener("more", 0); err == nil || !strings.Contains(err.Error(), "board full") {
		t.Errorf("a listener on a full board: %v, want an error that says so", err)
	}
	if _, err := b.Listener("web", 0); err != nil {
		t.Errorf("a listener that was there: %v", err)
	}
}

func TestBoardCostsWhatIsTouched(t *testing.T) {
	b := newBoard(t)
	for i := range 4 {
		if _, err := b.Listener("web", i); err != nil {
			t.Fatal(err)
		}
	}
	if got, limit := allocatedBytes(t, b.FD()), int64(os.Getpagesize()); got > limit {
		t.Errorf("four listeners' cells occupy %d bytes of memory, want at most %d", got, limit)
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
		{"too small", func(t *testing.T) int { return tempFile(t, boardSize-1) }, fmt.Sprintf("%d bytes, want %d", boardSize-1, boardSize)},
		{"no magic", func(t *testing.T) int { return tempFile(t, boardSize) }, "wrong magic number"},
		{"other layout", func(t *testing.T) int {
			b := newBoard(t)
			b.header().version = layoutVersion + 1
			return dupUntilEnd(t, b.FD())
		}, fmt.Sprintf("layout %d, want %d", layoutVersion+1, layoutVersion)},
		{"damaged", func(t *testing.T) int {
			b := newBoard(t)
			b.header().end.Store(boardSize + 1)
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

// TestReadWhileAppending follows the owner through a mapping of its own, as
// another process would: whatever it finds is whole, in order and there once.
func TestReadWhileAppending(t *testing.T) {
	const n = 3000
	series := func(i int) Series {
		return Series{Acceptor: i, Pool: fmt.Sprint("pool", i), Name: strings.Repeat("b", i%maxName)}
	}
	owner := newBoard(t)
	reader := openAgain(t, owner)
	deadline := time.Now().Add(20 * time.Second)

	var appending sync.WaitGroup
	defer appending.Wait()
	appending.Go(func() {
		for i := range n {
			s := series(i)
			c, err := owner.Backend(s.Pool, s.Name, s.Acceptor)
			if err != nil {
				t.Error(err)
				return
			}
			c.Active.Store(int64(i))
		}
	})
	for i := range n {
		// A name that was indexed before it was whole would never be found.
		for s := series(i); ; {
			_, err := reader.Backend(s.Pool, s.Name, s.Acceptor)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrNoCells) || time.Now().After(deadline) {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		if i%100 != 99 {
			continue
		}
		at := 0
		for s := range reader.Backends() {
			if s != series(at) {
				t.Fatalf("record %d is %+v", at, s)
			}
			at++
		}
		if at <= i {
			t.Fatalf("went through %d records, knowing %d", at, i+1)
		}
	}
}

func TestIterationStops(t *testing.T) {
	b := newBoard(t)
	for i := range 3 {
		if _, err := b.Acceptor(i); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for range b.Acceptors() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d rounds of a loop that breaks in the first", n)
	}
}
