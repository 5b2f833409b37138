package proxy

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// Every errno of the calls that move bytes from the client to the backend.
func TestRelayErrno(t *testing.T) {
	const (
		goesOn       = ""
		clientBroke  = "client_reset: client closed, backend reset"
		backendBroke = "backend_reset: client reset, backend closed"
		machine      = "internal_error: client reset, backend reset"
	)
	for _, e := range []struct {
		relay Relay
		step  string
		errno syscall.Errno
		want  string
	}{
		{RelayCopy, "read", syscall.EAGAIN, goesOn},
		{RelayCopy, "read", syscall.EINTR, goesOn},
		{RelayCopy, "read", syscall.ECONNRESET, clientBroke},
		{RelayCopy, "read", syscall.ETIMEDOUT, clientBroke},
		{RelayCopy, "read", syscall.EHOSTUNREACH, clientBroke},
		{RelayCopy, "write", syscall.EAGAIN, goesOn},
		{RelayCopy, "write", syscall.EINTR, goesOn},
		{RelayCopy, "write", syscall.EPIPE, backendBroke},
		{RelayCopy, "write", syscall.ECONNRESET, backendBroke},
		{RelayCopy, "write", syscall.ETIMEDOUT, backendBroke},
		{RelaySplice, "splice in", syscall.EAGAIN, goesOn},
		{RelaySplice, "splice in", syscall.EINTR, goesOn},
		{RelaySplice, "splice in", syscall.ECONNRESET, clientBroke},
		{RelaySplice, "splice out", syscall.EAGAIN, goesOn},
		{RelaySplice, "splice out", syscall.EINTR, goesOn},
		{RelaySplice, "splice out", syscall.EPIPE, backendBroke},
		{RelaySplice, "splice out", syscall.ECONNRESET, backendBroke},
		{RelayCopy, "read", syscall.ENETDOWN, clientBroke},
		{RelayCopy, "read", syscall.EPERM, machine},
		{RelayCopy, "read", syscall.ENOSYS, machine},
		{RelayCopy, "read", syscall.EINVAL, machine},
		{RelayCopy, "write", syscall.EPERM, machine},
		{RelayCopy, "write", syscall.ENOBUFS, machine},
		{RelaySplice, "splice in", syscall.EPERM, goesOn}, // it copies instead
		{RelaySplice, "splice in", syscall.EACCES, goesOn},
		{RelaySplice, "splice in", syscall.ENOSYS, goesOn},
		{RelaySplice, "splice in", syscall.EINVAL, goesOn},
		{RelaySplice, "splice in", syscall.EOPNOTSUPP, goesOn},
		{RelaySplice, "splice in", syscall.ENOMEM, goesOn},
		{RelaySplice, "splice out", syscall.EPERM, goesOn},
		{RelaySplice, "splice out", syscall.ENOSYS, goesOn},
		{RelaySplice, "splice out", syscall.EINVAL, goesOn},
		{RelaySplice, "splice out", syscall.EOPNOTSUPP, goesOn},
		{RelaySplice, "splice out", syscall.ENOMEM, goesOn},
		{RelaySplice, "splice out", syscall.EHOSTUNREACH, backendBroke},
		{RelaySplice, "pipe", syscall.EMFILE, goesOn},
		{RelaySplice, "pipe", syscall.ENFILE, goesOn},
		{RelaySplice, "pipe", syscall.ENOMEM, goesOn},
	} {
		t.Run(fmt.Sprintf("%s/%v", e.step, e.errno), func(t *testing.T) {
			w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = e.relay })
			s, f := w.relaying()
			fds := s.fd
			f[client].in = []byte("some words")
			w.faults[e.step] = []syscall.Errno{e.errno}
			w.turn(w.on(fds[client], epollIn))
			if e.want != goesOn {
				if got := w.outcome(s, fds); got != e.want {
					t.Errorf("got  %s\nwant %s", got, e.want)
				}
				w.settled()
				return
			}
			if e.errno == syscall.EAGAIN { // the kernel tells when it is worth another try
				w.turn(w.on(fds[client], epollIn), w.on(fds[backend], epollOut))
			}
			if got := string(f[backend].out); got != "some words" {
				t.Errorf("the backend got %q", got)
			}
			w.settled()
		})
	}
}

// A peer that is gone when it should hear of an end is a reset.
func TestShutdownErrno(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	fds := s.fd
	f[client].eof = true
	w.faults["shutdown"] = []syscall.Errno{syscall.ENOTCONN}
	w.turn(w.on(fds[client], epollIn|epollRdhup))
	if got, want := w.outcome(s, fds), "backend_reset: client reset, backend closed"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.settled()
}

// Once splice(2) is denied nothing is spliced any more, it is told once, and what lay in
// pipes arrives: of this session and of others.
func TestSpliceDenied(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = RelaySplice })
	s, f := w.relaying()
	sent := bytes.Repeat([]byte("0123456789"), 1000)
	f[client].in, f[backend].room = sent, 1234
	f[backend].in, f[client].room = sent, 0
	w.turn(w.on(s.fd[client], epollIn), w.on(s.fd[backend], epollIn))
	if n := w.a.cells.PipesInUse.Load(); n != 2 {
		t.Fatalf("%d pipes in use", n)
	}
	w.faults["splice out"] = always(syscall.ENOSYS)
	w.faults["read pipe"] = []syscall.Errno{syscall.EINTR}
	f[backend].room, f[client].room = 1<<20, 3000
	w.turn(w.on(s.fd[backend], epollOut), w.on(s.fd[client], epollOut))
	f[client].room = 1 << 20
	f[client].in = []byte("more")
	w.turn(w.on(s.fd[client], epollIn|epollOut))
	if got := f[backend].out; !bytes.Equal(got, append(bytes.Clone(sent), "more"...)) {
		t.Errorf("the backend got %d bytes, or others", len(got))
	}
	if got := f[client].out; !bytes.Equal(got, sent) {
		t.Errorf("the client got %d bytes, or others", len(got))
	}
	c := w.a.cells
	if c.PipesOpen.Load() != 0 || c.SpliceDenied.Load() != 1 || c.SpillBytes.Load() != 0 {
		t.Errorf("%d pipes open, denied %d times, %d bytes spilled", c.PipesOpen.Load(), c.SpliceDenied.Load(), c.SpillBytes.Load())
	}
	w.wantNotices(NoticeSpliceDenied)
	w.settled()
}

// A pipe that cannot even be read ends its session: its bytes are lost, and neither side
// is told that all came through.
func TestPipeCannotBeRead(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = RelaySplice })
	s, f := w.relaying()
	fds := s.fd
	f[client].in = []byte("some words")
	w.faults["splice out"] = []syscall.Errno{syscall.EPERM}
	w.faults["read pipe"] = []syscall.Errno{syscall.EPERM}
	w.turn(w.on(fds[client], epollIn))
	if got, want := w.outcome(s, fds), "internal_error: client reset, backend reset"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.settled()
}

// A short write holds the rest, stops reading, and goes on where it left off.
func TestShortWrite(t *testing.T) {
	for _, relay := range []Relay{RelayCopy, RelaySplice} {
		w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = relay })
		s, f := w.relaying()
		sent := bytes.Repeat([]byte("0123456789"), 1000)
		f[client].in = sent
		f[backend].room = 4321
		w.turn(w.on(s.fd[client], epollIn))
		if h := s.half[toBackend]; int(h.held) != len(sent)-4321 {
			t.Errorf("relay %d: held %d", relay, h.held)
		}
		f[client].in = []byte("more")
		reads := w.calls["read"] + w.calls["splice in"]
		w.turn(w.on(s.fd[client], epollIn))
		if n := w.calls["read"] + w.calls["splice in"]; n != reads {
			t.Errorf("relay %d: %d reads while bytes are held", relay, n-reads)
		}
		f[backend].room = 1 << 20
		w.turn(w.on(s.fd[backend], epollOut))
		if got := f[backend].out; !bytes.Equal(got, append(sent, "more"...)) {
			t.Errorf("relay %d: the backend got %d bytes, want %d, or others", relay, len(got), len(sent)+4)
		}
		if a := w.a.cells; a.SpillBytes.Load() != 0 || a.PipesInUse.Load() != 0 {
			t.Errorf("relay %d: %d bytes spilled, %d pipes in use", relay, a.SpillBytes.Load(), a.PipesInUse.Load())
		}
		w.settled()
	}
}

// A session cut while bytes are held destroys its pipe: the next one must not get them.
func TestHeldPipeIsDestroyed(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = RelaySplice })
	s, f := w.relaying()
	f[client].in = []byte("never delivered")
	f[backend].room = 0
	w.turn(w.on(s.fd[client], epollIn))
	if n := w.a.cells.PipesInUse.Load(); n != 1 {
		t.Fatalf("%d pipes in use", n)
	}
	w.a.end(0, s, cutFor(metrics.ReasonDrainDeadline))
	if n := w.a.cells.PipesOpen.Load(); n != 0 {
		t.Errorf("%d pipes are left open", n)
	}
	w.settled()
}

// What came before a RST is delivered, though it takes more than one turn.
func TestLongDataBeforeReset(t *testing.T) {
	for _, relay := range []Relay{RelayCopy, RelaySplice} {
		w := newWorld(t, func(p *Plan) { p.Listeners[0].Relay = relay })
		s, f := w.relaying()
		f[backend].in = make([]byte, 3*turnBytes)
		f[backend].err = syscall.ECONNRESET
		w.turn(w.on(s.fd[backend], epollIn|epollErr|epollHup|epollRdhup))
		if n := len(f[client].out); n != 3*turnBytes {
			t.Errorf("relay %d: %d of %d bytes were delivered before the RST", relay, n, 3*turnBytes)
		}
		if got := w.ended(); got != "backend_reset" {
			t.Errorf("relay %d: closed as %q", relay, got)
		}
		w.settled()
	}
}

// An endless sender gets its share of each turn and no more, and its session's other
// half moves beside it.
func TestTurnIsBounded(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	f[client].in = make([]byte, 10*turnBytes)
	f[backend].in = []byte("meanwhile")
	w.events = []syscall.EpollEvent{w.on(s.fd[client], epollIn), w.on(s.fd[backend], epollIn)}
	w.once()
	if n := len(f[backend].out); n < turnBytes || n > turnBytes+bufferSize+pipeSize {
		t.Errorf("%d bytes moved in a turn", n)
	}
	if got := string(f[client].out); got != "meanwhile" {
		t.Errorf("the client got %q", got)
	}
	w.turn()
	if n := len(f[backend].out); n != 10*turnBytes {
		t.Errorf("%d bytes arrived", n)
	}
	w.settled()
}

// An event that was meant for the session that had the slot before is not heard.
func TestStaleEvent(t *testing.T) {
	w := newWorld(t)
	s, _ := w.relaying()
	stale := w.on(s.fd[client], gone)
	w.a.end(0, s, cutFor(metrics.ReasonDrainDeadline))
	w.turn()
	s, _ = w.relaying()
	w.turn(stale)
	if s.state != stateRelaying || s.ready[client]&(broken|hup) != 0 {
		t.Errorf("state %d, readiness %b", s.state, s.ready[client])
	}
	w.settled()
}

// A session that ends while it is queued, with an event to come in the same batch.
func TestEndWhileQueued(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	f[client].in = make([]byte, 3*turnBytes)
	late := w.on(s.fd[backend], epollIn)
	w.events = []syscall.EpollEvent{w.on(s.fd[client], epollIn)}
	w.once() // it has used its share and is queued for more
	if !s.queued {
		t.Fatal("not queued")
	}
	w.a.end(0, s, cutFor(metrics.ReasonDrainDeadline))
	if w.a.slab.used != 1 {
		t.Error("the slot was given back while it is on the run list")
	}
	w.turn(late)
	w.pass(time.Second)
	w.settled()
}
