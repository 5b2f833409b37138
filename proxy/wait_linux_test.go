package proxy

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// waits is a listener whose clients wait five seconds for a backend, two at a time.
func waits(p *Plan) {
	p.Listeners[0].WaitForBackend, p.Listeners[0].MaxWaiting = 5*time.Second, 2
}

// latePark is the longest that a parked session stays so.
const latePark = parkFor + (1+parkJitter)*tickLength

// absences is every way in which a backend is not there: how it begins, how it ends,
// and what a session that meets it is closed with.
var absences = []struct {
	name       string
	begin, end func(w *world)
	reason     metrics.Reason
}{
	{"refused", failing(syscall.ECONNREFUSED), working, metrics.ReasonConnectFailed},
	{"unreachable", failing(syscall.EHOSTUNREACH), working, metrics.ReasonConnectFailed},
	{"silent", failing(syscall.ETIMEDOUT), working, metrics.ReasonConnectTimeout},
	{"unknown", func(w *world) { w.resolve(false) }, func(w *world) { w.resolve(true) }, metrics.ReasonNoBackend},
}

func failing(errno syscall.Errno) func(*world) {
	return func(w *world) { w.faults["connect"] = always(errno) }
}

func working(w *world) { w.faults["connect"] = nil }

// resolve publishes a Plan in which the backends' names have their address, or none.
func (w *world) resolve(known bool) {
	p := w.plan.Pools[0]
	if p.Targets = nil; known {
		p.Targets = []pool.Target{targetAt(0, netip.MustParseAddrPort("192.0.2.1:80")), targetAt(1, netip.MustParseAddrPort("192.0.2.1:80"))}
	}
	w.apply(&Plan{Listeners: w.plan.Listeners, Pools: []pool.Pool{p}})
}

// wantWaits checks how many wait now, and how the waits that are over ended.
func (w *world) wantWaits(now int64, connected, closed uint64) {
	w.t.Helper()
	c := w.a.web()
	if n, co, cl := c.Waiting.Load(), c.Waited[metrics.WaitConnected].Load(), c.Waited[metrics.WaitClosed].Load(); n != now || co != connected || cl != closed {
		w.t.Errorf("%d wait, %d have been connected, %d closed; want %d, %d, %d", n, co, cl, now, connected, closed)
	}
}

// A session waits, holding nothing of a backend and reading nothing, and is served when
// there is one.
func TestWaitForBackend(t *testing.T) {
	for _, absence := range absences {
		t.Run(absence.name, func(t *testing.T) {
			w := newWorld(t, waits)
			absence.begin(w)
			_, s := w.accept()
			w.turn(w.on(s.fd[client], epollIn|epollOut))
			w.pass(4 * time.Second)
			if s.state != stateWaiting || s.fd[backend] >= 0 || s.picked {
				t.Fatalf("state %d, backend descriptor %d, picked %v; closed as %q", s.state, s.fd[backend], s.picked, w.ended())
			}
			if n := w.calls["connect"]; n > 80 || n < 30 && absence.reason != metrics.ReasonNoBackend {
				t.Errorf("%d connects to two backends in 4 s", n)
			}
			if w.calls["read"] > 0 {
				t.Error("the client was read from")
			}
			w.wantWaits(1, 0, 0)

			absence.end(w)
			w.pass(latePark)
			if s.state != stateDialing {
				t.Fatalf("state %d, want dialing", s.state)
			}
			w.wantWaits(1, 0, 0)
			w.turn(w.on(s.fd[backend], epollOut))
			if s.state != stateRelaying {
				t.Errorf("state %d, want relaying", s.state)
			}
			w.wantWaits(0, 1, 0)
			w.settled()
			w.wantWaits(0, 1, 0)
		})
	}
}

// It ends when its time is over, not earlier, with the reason that it would have had at
// once.
func TestWaitForBackendEnds(t *testing.T) {
	for _, absence := range absences {
		t.Run(absence.name, func(t *testing.T) {
			w := newWorld(t, waits)
			absence.begin(w)
			w.accept()
			w.pass(5*time.Second - 20*time.Millisecond)
			if reason := w.ended(); reason != "" {
				t.Errorf("closed as %q before its time", reason)
			}
			w.pass(latePark + 20*time.Millisecond)
			if reason := w.ended(); reason != absence.reason.String() {
				t.Errorf("closed as %q, want %q", reason, absence.reason)
			}
			if n := w.a.Board.Pool(0, appID).NoBackend.Load(); n > 1 {
				t.Errorf("one session counted %d times as without a backend", n)
			}
			w.wantWaits(0, 0, 1)
			w.settled()
		})
	}
}

// Each try has connect_timeout, and its retries.
func TestWaitForSilentBackend(t *testing.T) {
	w := newWorld(t, waits)
	w.accept()
	w.pass(3 * time.Second)
	if n := w.attempts(); n != 3 {
		t.Errorf("%d connects in 3 s, want those at 0, 1 and 2 s", n)
	}
	w.wantWaits(1, 0, 0)
	w.pass(4 * time.Second) // the tries that have begun at the end may finish
	if reason := w.ended(); reason != "connect_timeout" {
		t.Errorf("closed as %q", reason)
	}
	w.settled()
}

// No more than max_waiting wait, and a place that comes free is given away again.
func TestMaxWaiting(t *testing.T) {
	w := newWorld(t, waits)
	w.faults["connect"] = always(syscall.ECONNREFUSED)
	_, first := w.accept()
	w.accept()
	if reason := w.ended(); reason != "" {
		t.Fatalf("one of two closed as %q", reason)
	}
	w.accept()
	if reason := w.ended(); reason != "connect_failed" {
		t.Errorf("the third closed as %q", reason)
	}
	w.wantWaits(2, 0, 0)
	w.turn(w.on(first.fd[client], gone))
	w.wantWaits(1, 0, 1)
	w.accept()
	w.wantWaits(2, 0, 1)
	w.settled()
}

// The number is that of all acceptors.
func TestMaxWaitingOverAcceptors(t *testing.T) {
	s := start(t, func(o *setup) {
		o.acceptors, o.apart = 2, true
		o.listener().WaitForBackend, o.listener().MaxWaiting = deadline, 3
		o.pool().Targets[0].Addr = nobody(t)
	})
	waiting := func(want int64) func() bool {
		return func() bool {
			var sum int64
			for _, a := range s.acceptors {
				sum += a.web().Waiting.Load()
			}
			return sum == want
		}
	}
	var held []*net.TCPConn
	for i := range 3 {
		held = append(held, s.dialTo(i%2))
		waitFor(t, "one more to wait", waiting(int64(i+1)))
	}
	s.wantRefused()
	s.closed(metrics.ReasonConnectFailed, 1)
	for _, c := range held {
		abortConn(t, c)
	}
	waitFor(t, "the end of all waits", waiting(0))
}

// A client that says all it has to say and shuts down its half still wants an answer; one
// that resets is let go.
func TestClientLeavesWhileItWaits(t *testing.T) {
	s := start(t, func(o *setup) {
		o.listener().WaitForBackend, o.listener().MaxWaiting = deadline, 2
		o.pool().Targets = nil
	})
	asks, leaves := s.dial(), s.dial()
	send(t, asks, "question")
	s.must(asks.CloseWrite())
	send(t, leaves, "never mind")
	waitFor(t, "both to wait", func() bool { return s.total(sessions) == 2 })
	abortConn(t, leaves)
	s.closed(metrics.ReasonClientReset, 1)

	next := s.renewed()
	next.Pools[0].Targets = []pool.Target{targetAt(0, addrOf(s.backend))}
	s.apply(next)
	b := s.answered()
	wantEnd(t, b, "question", sawFIN)
	send(t, b, "answer")
	b.Close()
	wantEnd(t, asks, "answer", sawFIN)
}

// One that shuts down its half without a word has left: the places are for those that
// still want something, whether it leaves before it waits or meanwhile.
func TestSilentClientsTakeNoPlaceOfThoseThatWait(t *testing.T) {
	const places = 2
	s := start(t, func(o *setup) {
		o.listener().WaitForBackend, o.listener().MaxWaiting = deadline, places
		o.pool().Targets = nil
	})
	for n := range uint64(5 * places) {
		c := s.dial()
		if n%2 == 0 {
			waitFor(t, "it to wait", func() bool { return s.total(sessions) == 1 })
		}
		s.must(c.CloseWrite())
		s.closed(metrics.ReasonClientEOF, n+1)
		c.Close()
	}
	for range places {
		c := s.dial()
		send(t, c, "question")
		defer abortConn(t, c)
	}
	waitFor(t, "both to wait", func() bool { return s.total(sessions) == places })
}

// Sessions that meet the same absence at the same time do not ask again in step.
func TestWaitersAreOutOfStep(t *testing.T) {
	w := newWorld(t, func(p *Plan) { waits(p); p.Listeners[0].MaxWaiting = 100 })
	w.faults["connect"] = always(syscall.ECONNREFUSED)
	for range 100 {
		w.accept()
	}
	at := map[uint32]int{}
	for slot := range int32(100) {
		at[w.a.openings.of(w.a.slab.at(slot)).until]++
	}
	for tick, n := range at {
		if n > 60 {
			t.Errorf("%d of 100 dial again at tick %d", n, tick)
		}
	}
	w.settled()
}

// A connection that a socket makes with itself, since nothing listens on the port,
// is refused: the client does not hear itself, and the port stays free for the
// backend.
func TestWaiterMeetsItself(t *testing.T) {
	shared := func(fd int) {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			t.Error(err)
		}
	}
	owner, at := boundSocket(t) // it keeps others away
	shared(owner)
	met := make(chan struct{})
	s := start(t, func(o *setup) {
		o.listener().WaitForBackend, o.listener().MaxWaiting = deadline, 1
		o.pool().Targets[0].Addr = at
		o.sys = func(y *sys.Calls) {
			connect, reset, tries := y.Connect, y.Reset, 0
			y.Connect = func(fd int, to netip.AddrPort) syscall.Errno {
				if tries++; tries == 2 {
					shared(fd)
					if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
						t.Error(err)
					}
				}
				return connect(fd, to)
			}
			y.Reset = func(fd int) syscall.Errno {
				if y.LocalAddr(fd) == at && y.PeerAddr(fd) == at {
					close(met)
				}
				return reset(fd)
			}
		}
	})
	c := s.dial()
	send(t, c, "is it me?")
	select {
	case <-met:
	case <-time.After(deadline):
		t.Fatal("no connection with itself was seen")
	}
	late := s.listen(at.String())
	t.Cleanup(func() { late.Close() })
	s.must(late.(*net.TCPListener).SetDeadline(time.Now().Add(deadline)))
	b, err := late.Accept()
	s.must(err)
	s.owned(b.(*net.TCPConn))
	expect(t, b, "is it me?")
	send(t, b, "no")
	expect(t, c, "no")
	c.Close()
	wantEnd(t, b, "", sawFIN)
	b.Close()
}

// One that waited for a descriptor when its backends went away waits for them now, and
// holds no other up.
func TestWaitAfterALack(t *testing.T) {
	w := newWorld(t, waits)
	w.faults["socket"] = []syscall.Errno{syscall.EMFILE}
	w.accept()
	w.resolve(false)
	w.queue = 1
	w.pass(maxPause)
	if w.queue != 0 {
		t.Error("a connection is not accepted")
	}
	w.wantWaits(2, 0, 0)
	w.settled()
}
