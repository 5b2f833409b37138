package proxy

import (
	"syscall"
	"testing"
	"time"
)

// A loop is scheduled in batches while a turn finds several events, and no longer.
func TestBusyLoopIsBatched(t *testing.T) {
	w := newWorld(t)
	s, _ := w.relaying()
	fds := s.fd
	turns := func(sides ...side) {
		w.batch = nil
		for range 30 {
			w.elapsed += time.Millisecond
			for _, sd := range sides {
				w.events = append(w.events, w.on(fds[sd], epollOut))
			}
			w.once()
			w.a.yield()
		}
	}
	want := func(when string, batch bool, cell int64) {
		t.Helper()
		if n := len(w.batch); n < 3 || w.batch[n-1] != batch {
			t.Errorf("%s: asked for %v, want %t in the end", when, w.batch, batch)
		}
		if got := w.a.cells.Batched.Load(); got != cell {
			t.Errorf("%s: batched %d, want %d", when, got, cell)
		}
	}

	turns(client, backend)
	if len(w.batch) > 0 {
		t.Errorf("not wanted, and asked for %v", w.batch)
	}
	w.a.Batch = true
	turns(client)
	want("one event a turn", false, 0)
	turns(client, backend)
	want("two events a turn", true, 1)
	turns(client)
	want("one again", false, 0)
	w.a.CPUs = []int{0}
	turns(client)
	if len(w.batch) > 0 {
		t.Errorf("a pinned one, and nothing has changed: asked for %v", w.batch)
	}
	turns(client, backend)
	if got := w.a.cells.Batched.Load(); got != 1 || len(w.batch) != 1 {
		t.Errorf("a pinned one, two events: batched %d, asked for %v", got, w.batch)
	}
	w.a.CPUs = nil
	turns(client)
	w.faults["schedule"] = always(syscall.EPERM)
	turns(client, backend)
	want("not permitted", true, 0)
	w.settled()
}

// A stream is one event a turn, and each splice counts as one more.
func TestStreamingLoopIsBatched(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = RelaySplice })
	w.a.Batch = true
	s, f := w.relaying()
	for range 30 {
		w.elapsed += time.Millisecond
		f[client].in = []byte("some of a stream")
		w.events = []syscall.EpollEvent{w.on(s.fd[client], epollIn)}
		w.once()
		w.a.yield()
	}
	if w.a.cells.Batched.Load() != 1 {
		t.Errorf("asked for %v, want true in the end", w.batch)
	}
	w.settled()
}
