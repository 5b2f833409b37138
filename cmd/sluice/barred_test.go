package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// barredFile is a service whose sources have so many sessions, and wait for more.
func barredFile(limit, acceptors int, backend string, lines ...string) string {
	return acceptorsTable(acceptors, "hash") + poolOf("app", []string{backend}) +
		listenerAt("main", "127.0.0.1:0", "app", append([]string{fmt.Sprintf("source_sessions = %d", limit), `over = "delay"`}, lines...)...)
}

// waited are the waits of a service's one listener that ended so.
func (s *instance) waited(end string) uint64 { return s.status().Listeners[0].Waited.Of(end) }

// awaitWaited waits until so many waits have ended so.
func (s *instance) awaitWaited(end string, n uint64) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%d waits ended %s", n, end), func() bool { return s.waited(end) == n })
}

// entrance is how a client comes from a source: with an address of its own, or as a header
// says.
type entrance struct {
	name  string
	lines []string
	dial  func(t *testing.T, source byte, addr string) *net.TCPConn
}

var entrances = []entrance{
	{"address", nil, func(t *testing.T, source byte, addr string) *net.TCPConn {
		return dialBy(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 30, 0, source)}}, addr)
	}},
	{"header", []string{`proxy_protocol = "required"`, `proxy_protocol_from = ["127.0.0.1"]`}, func(t *testing.T, source byte, addr string) *net.TCPConn {
		c := dial(t, addr)
		send(t, c, fmt.Sprintf("PROXY TCP4 192.0.2.%d 192.0.2.250 1000 80\r\n", source))
		return c
	}},
}

// barredModes runs a body in both modes and for both ways in which a client is known.
func barredModes(t *testing.T, body func(t *testing.T, mode string, e entrance)) {
	for _, e := range entrances {
		t.Run(e.name, func(t *testing.T) {
			modesTogether(t, func(t *testing.T, mode string) { body(t, mode, e) })
		})
	}
}

// A source that comes with more sessions than it may have, has all of them served one after
// the other, and at the backend never more at a time than it may, whichever of four acceptors
// they meet. Another source waits for none of them.
func TestSourceWaitsForItsSessions(t *testing.T) {
	const limit, visitors, each = 3, 16, 12
	barredModes(t, func(t *testing.T, mode string, e entrance) {
		g := startGate(t, 'g', limit)
		s := startChanging(t, mode, barredFile(limit, 4, g.addr, e.lines...))
		var all sync.WaitGroup
		var served atomic.Int64
		for range visitors {
			all.Go(func() {
				for range each {
					c := e.dial(t, 1, s.addr())
					if _, err := c.Read(make([]byte, 1)); err != nil {
						t.Error(err)
						return
					}
					served.Add(1)
					c.Close()
				}
			})
		}
		all.Wait()
		g.check(t)
		if n := served.Load(); n != visitors*each {
			t.Errorf("%d of %d are served", n, visitors*each)
		}
		s.awaitIdle()
		s.awaitWaiting(0)
		if s.waited("admitted") == 0 || s.waited("closed") != 0 || s.metric("sluice_listener_rejected_connections_total") != 0 {
			t.Errorf("waits ended %v", s.status().Listeners[0].Waited)
		}
	})
}

// While a source has its sessions another one is served at once, what comes free is taken at
// once, a client that leaves gives its place back, and beyond max_waiting a client is turned
// away.
func TestPlacesOfThoseWhoWaitForTheirSource(t *testing.T) {
	barredModes(t, func(t *testing.T, mode string, e entrance) {
		backend := echoing(t)
		s := startChanging(t, mode, barredFile(2, 4, backend.addr, append(e.lines, "max_waiting = 3")...))
		talking := func(source byte) *net.TCPConn {
			t.Helper()
			c := e.dial(t, source, s.addr())
			send(t, c, "x")
			expect(t, c, "x")
			return c
		}
		first, second := talking(1), talking(1)
		var waiting []*net.TCPConn
		for i := range 3 {
			waiting = append(waiting, e.dial(t, 1, s.addr()))
			send(t, waiting[i], "y")
			s.awaitWaiting(i + 1)
		}
		if e.lines != nil {
			expectReset(t, e.dial(t, 1, s.addr()))
		} else if entersFrom(t, "127.30.0.1", s.addr()) { // it may be reset before it knows that it is connected
			t.Error("one too many waits")
		}
		talking(2)

		reset(t, waiting[0])
		s.awaitWaiting(2)
		s.awaitWaited("closed", 1)
		begin := time.Now()
		first.Close()
		s.awaitWaited("admitted", 1)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the place that came free was taken after %v", took)
		}
		second.Close()
		for _, c := range waiting[1:] {
			expect(t, c, "y")
			c.Close()
		}
		s.awaitWaited("admitted", 2)
		s.awaitWaiting(0)
		if s.metric("sluice_listener_rejected_connections_total", `reason="source_sessions"`)+s.metric("sluice_listener_closed_connections_total", `reason="source_sessions"`) != 1 {
			t.Error("more than one was turned away")
		}
	})
}

// A client that waits in vain is refused once the delay is over, and not earlier; a limit
// that a reload raises, or takes away, holds for those that wait.
func TestSourceWaitsInVain(t *testing.T) {
	barredModes(t, func(t *testing.T, mode string, e entrance) {
		const delay = 10 * time.Second
		backend := echoing(t)
		s := startChanging(t, mode, barredFile(1, 2, backend.addr, e.lines...))
		held := e.dial(t, 1, s.addr())
		send(t, held, "x")
		expect(t, held, "x")
		begin := time.Now()
		late := e.dial(t, 1, s.addr())
		expectReset(t, late)
		if took := time.Since(begin); took < delay || took > delay+5*time.Second {
			t.Errorf("refused after %v, want %v", took, delay)
		}
		s.expectClosed(map[string]int{"source_sessions": 1})
		next, other := e.dial(t, 1, s.addr()), e.dial(t, 1, s.addr())
		for _, c := range []*net.TCPConn{next, other} {
			send(t, c, "z")
		}
		s.awaitWaiting(2)
		s.reload(barredFile(2, 2, backend.addr, e.lines...))
		s.awaitWaiting(1)
		s.reload(strings.Replace(barredFile(2, 2, backend.addr, e.lines...), "source_sessions = 2", "", 1))
		for _, c := range []*net.TCPConn{next, other} {
			expect(t, c, "z")
		}
	})
}

// A drain lets clients that wait for their source end as others do: served when a session
// ends, and cut when its time is over.
func TestDrainWhileASourceWaits(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		for _, cut := range []bool{false, true} {
			limit := "1m"
			if cut {
				limit = "1s"
			}
			s := startChanging(t, mode, fmt.Sprintf("[limits]\ndrain_timeout = %q\n", limit)+barredFile(1, 2, echoing(t).addr))
			held := dial(t, s.addr())
			send(t, held, "x")
			expect(t, held, "x")
			late := dial(t, s.addr())
			send(t, late, "y")
			s.awaitWaiting(1)
			s.signal(syscall.SIGTERM)
			want := exitOK
			if cut {
				expectReset(t, late)
				want = exitFault
			} else {
				s.tells("draining", func(n int) bool { return n > 0 })
				held.Close()
				expect(t, late, "y")
				late.Close()
			}
			if status := s.wait(stopWithin); status != want {
				t.Errorf("exit status %d, want %d", status, want)
			}
		}
	})
}

// What a worker that died had of a source is given back, and a client that waits for it
// elsewhere gets it; its own waiting clients give their places back, too.
func TestWorkerDiesWhileASourceWaits(t *testing.T) {
	t.Parallel()
	s := startChanging(t, "process", barredFile(2, 2, echoing(t).addr))
	byWorker := func() (in []int64) {
		for _, a := range s.status().Acceptors {
			in = append(in, a.Sessions)
		}
		return in
	}
	var in, out []*net.TCPConn
	for len(in) < 2 { // both on acceptor 0
		c := dial(t, s.addr())
		send(t, c, "x")
		expect(t, c, "x")
		if byWorker()[0] == int64(len(in)+1) {
			in = append(in, c)
			continue
		}
		reset(t, c)
		eventually(t, patience, "it has gone", func() bool { return byWorker()[1] == 0 })
	}
	for i := 0; len(out) < 1; i++ { // one waits at acceptor 1, and perhaps some at 0
		c := dial(t, s.addr())
		s.awaitWaiting(i + 1)
		if byWorker()[1] == 1 {
			send(t, c, "y")
			out = append(out, c)
		}
	}
	kill(t, s.awaitWorkers()[0].PID, syscall.SIGKILL)
	expect(t, out[0], "y")
	eventually(t, patience, "nobody waits", func() bool { return s.metric("sluice_listener_waiting_connections") == 0 })
}
