package logring

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// within bounds everything a test waits for.
const within = 20 * time.Second

func told(w io.Writer, n uint64) { fmt.Fprintf(w, "lost %d\n", n) }

// pipe is a log whose reader may stop: r is not read until the test does.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := r.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return r, w
}

func closeRing(t *testing.T, r *Ring) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestLinesGoThroughInOrder(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, Options{Lost: told})
	var want strings.Builder
	for i := range 5000 {
		fmt.Fprintf(r, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	closeRing(t, r)
	if got := out.String(); got != want.String() || r.Dropped() != 0 {
		t.Errorf("%d bytes, %d dropped; want %d bytes", len(got), r.Dropped(), want.Len())
	}
}

// The reader stops, a flood comes, the reader goes on: no writer waited, the memory
// was bounded, the gap is reported once and at its place, and what comes later is
// there.
func TestStoppedReader(t *testing.T) {
	out, w := pipe(t)
	r := New(w, Options{MaxBytes: 64 << 10, Lost: told})
	line := strings.Repeat("x", 99)
	const flood = 50_000
	start := time.Now()
	for i := range flood {
		fmt.Fprintf(r, "%d %s\n", i, line)
	}
	if d := time.Since(start); d > within/2 {
		t.Errorf("%d lines took %v with a stopped reader", flood, d)
	}
	r.mu.Lock()
	if len(r.waiting) > 32<<10 || cap(r.waiting) > 80<<10 {
		t.Errorf("%d bytes wait in %d", len(r.waiting), cap(r.waiting))
	}
	r.mu.Unlock()
	dropped := r.Dropped()
	if dropped == 0 || dropped >= flood {
		t.Fatalf("%d dropped of %d", dropped, flood)
	}

	lines := bufio.NewScanner(out)
	next, gaps, lost := 0, 0, uint64(0)
	for lines.Scan() {
		if lines.Text() == "at last" {
			break
		}
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "lost %d", &n); err == nil {
			gaps, lost, next = gaps+1, lost+uint64(n), next+n
		} else if _, err := fmt.Sscan(lines.Text(), &n); err == nil && n == next {
			next++
		} else {
			t.Fatalf("line %q, want number %d", lines.Text(), next)
		}
		if next >= flood { // all is reported, so there is room again
			fmt.Fprintln(r, "at last")
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if next != flood || gaps == 0 || lost != dropped || r.Dropped() != dropped {
		t.Errorf("%d lines accounted for of %d; %d gaps tell of %d lost, %d were dropped", next, flood, gaps, lost, dropped)
	}
	closeRing(t, r)
}

func TestLinesAreBounded(t *testing.T) {
	_, w := pipe(t)
	fill(t, w)
	r := New(w, Options{MaxLines: 20})
	for range 1000 {
		io.WriteString(r, "\n")
	}
	if d := r.Dropped(); d < 1000-20 || d > 1000-10 { // 10 wait; up to 10 may be in the writer's hands
		t.Errorf("%d dropped of 1000", d)
	}
}

// fill leaves no room in a pipe.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	if err := w.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Write(make([]byte, 4096)); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestCloseDoesNotWaitForAStuckReader(t *testing.T) {
	_, w := pipe(t)
	fill(t, w)
	r := New(w, Options{})
	io.WriteString(r, "never read\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	io.WriteString(r, "too late\n")
	if r.Dropped() != 1 {
		t.Errorf("%d dropped, want the one after close", r.Dropped())
	}
	w.Close() // the writer's goroutine ends with its write
	<-r.ended
}

func TestClosedLogIsHarmless(t *testing.T) {
	for _, end := range []string{"reader", "writer"} { // EPIPE, and a closed file
		t.Run(end, func(t *testing.T) {
			out, w := pipe(t)
			if end == "reader" {
				out.Close()
			} else {
				w.Close()
			}
			r := New(w, Options{Lost: told})
			for range 100 {
				io.WriteString(r, "line\n")
			}
			closeRing(t, r)
			if r.Dropped() != 100 {
				t.Errorf("%d dropped of 100", r.Dropped())
			}
		})
	}
}

// faulty gives one errno after the other, then takes what comes.
type faulty struct {
	errs []error
	out  bytes.Buffer
}

func (f *faulty) Write(p []byte) (int, error) {
	if len(f.errs) == 0 {
		return f.out.Write(p)
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	n, _ := f.out.Write(p[:len(p)/2])
	return n, err
}

func TestErrors(t *testing.T) {
	for _, row := range []struct {
		name    string
		errs    []error
		want    string
		dropped uint64
	}{
		{"would block: tried again", []error{syscall.EAGAIN, syscall.EAGAIN}, "one line\n", 0},
		{"disk full: lost, and told with what follows", []error{syscall.ENOSPC}, "one lost 1\n", 1},
		{"and also that could not be told at once", []error{syscall.ENOSPC, syscall.ENOSPC}, "one los", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := &faulty{errs: row.errs}
			r := New(w, Options{Lost: told})
			io.WriteString(r, "one line\n")
			closeRing(t, r)
			if got := w.out.String(); got != row.want || r.Dropped() != row.dropped {
				t.Errorf("%q, %d dropped; want %q, %d", got, r.Dropped(), row.want, row.dropped)
			}
		})
	}
}

// A million lines by many goroutines: each is written or counted.
func TestMillionLines(t *testing.T) {
	const writers, each = 8, 125_000
	var out counter
	r := New(&out, Options{Lost: told})
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				io.WriteString(r, "a line of the usual length is rather longer than this one\n")
			}
		})
	}
	all.Wait()
	closeRing(t, r)
	if out.lines+r.Dropped() != writers*each {
		t.Errorf("%d written and %d dropped of %d", out.lines, r.Dropped(), writers*each)
	}
	if out.lost != r.Dropped() {
		t.Errorf("%d told of %d dropped", out.lost, r.Dropped())
	}
	if cap(r.waiting) > maxBytes {
		t.Errorf("%d bytes are held", cap(r.waiting))
	}
}

// counter counts lines, and what the lines about lost ones say.
type counter struct{ lines, lost uint64 }

func (c *counter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		var n uint64
		if _, err := fmt.Sscanf(line, "lost %d", &n); err == nil {
			c.lost += n
		} else {
			c.lines++
		}
	}
	return len(p), nil
}

func BenchmarkWrite(b *testing.B) {
	r := New(io.Discard, Options{})
	line := []byte(strings.Repeat("x", 199) + "\n")
	b.ReportAllocs()
	for b.Loop() {
		r.Write(line)
	}
	r.Close(b.Context())
}
