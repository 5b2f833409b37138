package main

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// awaitWaiting waits until n clients wait for a backend.
func (s *instance) awaitWaiting(n int) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%d clients wait", n), func() bool {
		return s.metric("sluice_listener_waiting_connections") == float64(n)
	})
}

// expectWaited checks how the waits that are over ended.
func (s *instance) expectWaited(connected, closed uint64) {
	s.t.Helper()
	got := s.status().Listeners[0].Waited
	if got.Of("connected") != connected || got.Of("closed") != closed {
		s.t.Errorf("waits ended %v, want %d connected, %d closed", got, connected, closed)
	}
}

// tries is how many connects have been made to backends.
func (s *instance) tries() float64 { return s.metric("sluice_backend_connect_attempts_total") }

// Clients that come and send before the backend listens are all served once it does,
// however late in their time; so are those that come while it is restarted.
func TestClientsWaitForABackend(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		addr, start := absent(t)
		s := sluice(t, mode, "--acceptors", "2", "--wait-for-backend", "1m", "--listen", "127.0.0.1:0", "--backend", addr)
		const n = 30
		clients := make([]*net.TCPConn, n)
		for i := range clients {
			clients[i] = dial(t, s.addr())
			send(t, clients[i], fmt.Sprintf("client %02d", i))
		}
		s.awaitWaiting(n)
		eventually(t, patience, "each has been tried several times", func() bool { return s.tries() >= 6*n })

		start(sendBack)
		for i, c := range clients {
			expect(t, c, fmt.Sprintf("client %02d", i))
			c.Close()
		}
		s.expectClosed(map[string]int{"client_eof": n})
		s.expectWaited(n, 0)
		s.awaitIdle()
	})
}

func TestClientsWaitForARestart(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := startPeer(t, "", sendBack)
		s := sluice(t, mode, "--acceptors", "2", "--wait-for-backend", "1m", "--listen", "127.0.0.1:0", "--backend", p.addr)
		for round := range 3 {
			c := dial(t, s.addr())
			send(t, c, "before")
			expect(t, c, "before")
			p.kill()
			expectEnd(t, c)
			c.Close()
			late := dial(t, s.addr())
			send(t, late, "after")
			s.awaitWaiting(1)
			p = startPeer(t, p.addr, sendBack)
			expect(t, late, "after")
			late.Close()
			s.expectClosed(map[string]int{"backend_eof": round + 1, "client_eof": round + 1})
			s.expectWaited(uint64(round+1), 0)
		}
	})
}

// A client whose time is over gets what it would have got at once, and not earlier.
func TestWaitIsBoundedInTime(t *testing.T) {
	for backend, reason := range map[string]string{refusing(t): "connect_failed", "nonexistent.invalid:80": "no_backend"} {
		t.Run(reason, func(t *testing.T) {
			modes(t, func(t *testing.T, mode string) {
				const limit = time.Second
				s := sluice(t, mode, "--wait-for-backend", limit.String(), "--listen", "127.0.0.1:0", "--backend", backend)
				begin := time.Now()
				c := dial(t, s.addr())
				send(t, c, "hello?")
				expectReset(t, c)
				if took := time.Since(begin); took < limit || took > limit+10*time.Second {
					t.Errorf("closed after %v, want %v", took, limit)
				}
				s.expectClosed(map[string]int{reason: 1})
				s.expectWaited(0, 1)
				s.awaitIdle()
			})
		})
	}
}

// As many wait as may, over all acceptors; the next is refused at once.
func TestWaitIsBoundedInNumber(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		addr, start := absent(t)
		const most = 5
		s := sluice(t, mode, "--acceptors", "2", "--wait-for-backend", "1m", "--max-waiting", fmt.Sprint(most), "--listen", "127.0.0.1:0", "--backend", addr)
		var clients []*net.TCPConn
		for i := range most {
			clients = append(clients, dial(t, s.addr()))
			s.awaitWaiting(i + 1)
		}
		for range 3 {
			expectRefusal(t, s.addr())
		}
		s.expectClosed(map[string]int{"connect_failed": 3})
		s.awaitWaiting(most)
		start(sendBack)
		for _, c := range clients {
			send(t, c, "served")
			expect(t, c, "served")
		}
		s.expectWaited(most, 0)
	})
}

// A client that leaves takes its place and its descriptors along.
func TestClientLeavesWhileWaiting(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--acceptors", "2", "--wait-for-backend", "1m", "--listen", "127.0.0.1:0", "--backend", refusing(t))
		s.awaitWaiting(0)
		before := s.descriptors()
		const n = 20
		var clients []*net.TCPConn
		for range n {
			clients = append(clients, dial(t, s.addr()))
		}
		s.awaitWaiting(n)
		for _, c := range clients {
			reset(t, c)
		}
		s.expectClosed(map[string]int{"client_reset": n})
		s.expectWaited(0, n)
		s.awaitIdle()
		if after := s.descriptors(); after > before+1 { // one for a connection of the admin endpoint, which may be there or not
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// A drain lets sessions that wait end, as it does others: served when the backend
// comes, and cut when its time is over.
func TestDrainWhileClientsWait(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		run := func(t *testing.T, drain string) (s *instance, c *net.TCPConn, start func(func(*net.TCPConn)) *peer) {
			addr, start := absent(t)
			s = sluice(t, mode, "--drain-timeout", drain, "--wait-for-backend", "1m", "--listen", "127.0.0.1:0", "--backend", addr)
			c = dial(t, s.addr())
			send(t, c, "still there?")
			s.awaitWaiting(1)
			return s, c, start
		}
		t.Run("the backend comes", func(t *testing.T) {
			s, c, start := run(t, "1m")
			s.drain()
			before := s.tries()
			eventually(t, patience, "it is still tried", func() bool { return s.tries() > before })
			start(sendBack)
			expect(t, c, "still there?")
			c.Close()
			if status := s.wait(stopWithin); status != exitOK {
				t.Errorf("exit status %d", status)
			}
		})
		t.Run("it does not", func(t *testing.T) {
			s, c, _ := run(t, "500ms")
			s.signal(syscall.SIGTERM)
			expectReset(t, c)
			if status := s.wait(stopWithin); status != exitFault {
				t.Errorf("exit status %d", status)
			}
			if !strings.Contains(s.logged(), `"sessions":1,"reason":"drain_deadline"`) {
				t.Error("the log does not tell of the session that was cut")
			}
		})
	})
}

// Waits that end with their worker are given back, and their places with them.
func TestWorkerKilledWhileClientsWait(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "1", "--wait-for-backend", "1m", "--max-waiting", "2", "--listen", "127.0.0.1:0", "--backend", refusing(t))
	for range 2 {
		dial(t, s.addr())
	}
	s.awaitWaiting(2)
	kill(t, s.awaitWorkers()[0].PID, syscall.SIGKILL)
	s.expectClosed(map[string]int{"worker_died": 2})
	s.expectWaited(0, 2)
	c := dial(t, s.addr())
	s.awaitWaiting(1)
	reset(t, c) // else the worker that is left alone at the end drains it
	s.awaitWaiting(0)
}
