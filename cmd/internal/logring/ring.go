// Package logring keeps a log from holding up its writers.
//
//	any goroutine ─► Limit ─► slog handler ─► Ring.Write ─► kept ─┐ (bounded; full: the line is counted as lost)
//	                 first of a kind and thing,                   ▼
//	                 then one a minute               write: one goroutine ─► stderr, which may be stuck or closed
//
// Write copies a line and returns: it never waits for the reader of the log. What
// does not fit is lost, and one line says how much once the log flows again.
package logring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options bound a Ring. Zero takes the default.
type Options struct {
	// MaxBytes and MaxLines bound what is kept, half of it being written and half
	// waiting. 1 MiB is some 5,000 lines, more than a minute of the busiest log that
	// Limit lets through; 16,384 lines keep a flood of tiny ones bounded as well.
	MaxBytes, MaxLines int

	// Lost writes the line that says that n lines were lost, as the log itself would.
	// It is called by the writer's goroutine, and only once lines were lost.
	Lost func(w io.Writer, n uint64)
}

const (
	maxBytes = 1 << 20
	maxLines = 1 << 14

	// keptIdle is how large a buffer may stay when all is written: a page of lines,
	// so that a burst does not hold its megabyte for ever.
	keptIdle = 16 << 10

	// againAfter is when a write is tried again that would block: another process
	// that shares the descriptor has made it non-blocking. A person does not notice
	// 50 ms.
	againAfter = 50 * time.Millisecond
)

// Ring is an io.Writer of whole lines in front of a slow one. All methods may be
// called by any goroutine. What is kept dies with the process: a crash costs the lines
// of its last moment, mostly below a millisecond. (The runtime's own report of the
// crash goes straight to stderr.)
type Ring struct {
	o       Options
	w       io.Writer
	dropped atomic.Uint64
	wake    chan struct{} // holds one token while there may be something to write
	ended   chan struct{} // closed when the writer has returned

	mu      sync.Mutex // held for copying a line, never while writing one
	waiting []byte     // whole lines; the other half is the writer's
	lines   int        // in waiting
	lost    uint64     // lines that came after those in waiting and found no room
	closed  bool
}

// New starts the writer of w. Close ends it.
func New(w io.Writer, o Options) *Ring {
	if o.MaxBytes == 0 {
		o.MaxBytes = maxBytes
	}
	if o.MaxLines == 0 {
		o.MaxLines = maxLines
	}
	r := &Ring{o: o, w: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go r.write()
	return r
}

// Write keeps p, one line or more, for the writer. It never fails and never waits.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	n := countLines(p)
	switch {
	case r.closed:
		r.dropped.Add(uint64(n))
	// Once one was lost so are those that follow, until the writer comes for what
	// waits: the loss is one gap, told at its place by one line.
	case r.lost > 0 || len(r.waiting)+len(p) > r.o.MaxBytes/2 || r.lines+n > r.o.MaxLines/2:
		r.lost += uint64(n)
		r.dropped.Add(uint64(n))
	default:
		r.waiting = append(r.waiting, p...)
		r.lines += n
	}
	r.mu.Unlock()
	r.nudge()
	return len(p), nil
}

// Dropped is how many lines were not written, of all time.
func (r *Ring) Dropped() uint64 { return r.dropped.Load() }

// Close writes what is kept and ends the writer. What comes later is lost. If the
// reader is stuck it gives up when ctx is done; the goroutine then stays in its
// write, and ends with it or with the process.
func (r *Ring) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.nudge()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Ring) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// write is the writer's goroutine. It waits for nothing but the next line and the
// reader of the log.
func (r *Ring) write() {
	defer close(r.ended)
	var spare []byte
	var unwritten uint64 // lines that an error has eaten, not reported yet
	for range r.wake {
		for {
			lines, lost, closed := r.take(spare[:0])
			if len(lines) == 0 && lost == 0 {
				if closed {
					return
				}
				break
			}
			failed := r.put(lines)
			r.dropped.Add(failed)
			if unwritten += failed + lost; unwritten > 0 && r.tell(unwritten) {
				unwritten = 0
			}
			if spare = lines; cap(spare) > keptIdle {
				spare = nil
			}
		}
	}
}

// take hands out what waits and leaves an empty buffer in its place.
func (r *Ring) take(empty []byte) (lines []byte, lost uint64, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) > 0 { // else empty stays the caller's
		lines, r.waiting = r.waiting, empty
	}
	lost, r.lost, r.lines = r.lost, 0, 0
	return lines, lost, r.closed
}

// put writes lines and returns how many it could not. A closed log (EBADF, EPIPE)
// and a full disk are borne: the next lines are tried again.
func (r *Ring) put(lines []byte) (failed uint64) {
	for len(lines) > 0 {
		n, err := r.w.Write(lines)
		lines = lines[min(max(n, 0), len(lines)):]
		switch {
		case errors.Is(err, syscall.EAGAIN):
			time.Sleep(againAfter)
		case err != nil:
			return uint64(countLines(lines))
		}
	}
	return 0
}

// tell writes the line about n lost ones.
func (r *Ring) tell(n uint64) bool {
	if r.o.Lost == nil {
		return true
	}
	var line bytes.Buffer
	r.o.Lost(&line, n)
	return r.put(line.Bytes()) == 0
}

// countLines counts a last one without its newline, too.
func countLines(p []byte) int {
	n := bytes.Count(p, []byte{'\n'})
	if len(p) > 0 && p[len(p)-1] != '\n' {
		n++
	}
	return n
}
