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
		for range 60 {
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
	for range 60 {
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

// Streams share a bounded part of each turn and take turns in it, and sessions that ask
// for little come before them.
func TestStreamsComeLast(t *testing.T) {
	const streams = 8
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = RelayCopy })
	var all []*fakeFD
	var order []int
	for i := range int32(streams + 1) {
		w.queue = 1
		for range 3 {
			w.turn()
		}
		s := w.a.slab.at(i)
		w.turn(w.on(s.fd[client], epollOut), w.on(s.fd[backend], epollOut))
		all = append(all, w.at(int(s.fd[client])))
		s.half[toBackend].streaming = i < streams
		w.a.runs.push(&w.a.slab, i)
	}
	w.turn()
	read := w.a.sys.Read
	w.a.sys.Read = func(fd int, p []byte) (int, syscall.Errno) {
		for i, f := range all {
			if f == w.fds[fd] {
				order = append(order, i)
				f.in = make([]byte, 10)
				if i < streams {
					f.in = make([]byte, len(p))                 // without end
					w.a.start = w.a.start.Add(-streamTime / 20) // a read takes its time
				}
			}
		}
		return read(fd, p)
	}
	served := map[int]int{}
	for range streams {
		order = nil
		for i := range int32(streams + 1) {
			w.events = append(w.events, w.on(w.a.slab.at(i).fd[client], epollIn))
		}
		w.once()
		if len(order) == 0 || order[0] != streams {
			t.Fatalf("served in the order %v: %d asks for little", order, streams)
		}
		in := map[int]bool{}
		for _, i := range order {
			in[i] = true
		}
		if len(in) > 4 { // one takes longer than its share of the time
			t.Errorf("%d sessions in a turn", len(in))
		}
		for i := range in {
			served[i]++
		}
	}
	for i := range streams {
		if served[i] == 0 {
			t.Errorf("stream %d had no turn in %d", i, streams)
		}
	}
	for _, f := range all {
		f.in, f.err = nil, syscall.ECONNRESET
	}
	w.a.sys.Read = read
	w.settled()
}
