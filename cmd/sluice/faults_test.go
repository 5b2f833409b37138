package main

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// expectClosed waits until exactly the given numbers of sessions have ended, by
// reason, and no others.
func (s *instance) expectClosed(want map[string]int) {
	s.t.Helper()
	closed := "none"
	deadline := time.Now().Add(patience)
	for {
		is := map[string]int{}
		for reason, n := range s.status().Listeners[0].Closed.All() {
			if n > 0 {
				is[reason] = int(n)
			}
		}
		if closed = fmt.Sprint(is); closed == fmt.Sprint(want) {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("sessions closed: %s; want %v", closed, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for reason, n := range want { // /metrics names them alike
		if got := s.metric("sluice_listener_closed_connections_total", fmt.Sprintf("reason=%q", reason)); got != float64(n) {
			s.t.Errorf("metric of %s is %v, want %d", reason, got, n)
		}
	}
}

// sessions is how many sessions are held now.
func (s *instance) sessions() int { return int(s.metric("sluice_acceptor_active_connections")) }

func TestSessionEnds(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)

		c := dial(t, s.addr())
		send(t, c, "hello")
		expect(t, c, "hello")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expectEnd(t, c)
		s.expectClosed(map[string]int{"client_eof": 1})

		c = dial(t, s.addr())
		send(t, c, "hello")
		expect(t, c, "hello")
		reset(t, c)
		s.expectClosed(map[string]int{"client_eof": 1, "client_reset": 1})
	})
}

func TestBackendEndsFirst(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := startPeer(t, "", func(c *net.TCPConn) {
			_, _ = c.Write([]byte("bye"))
			c.Close()
		})
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", p.addr)
		c := dial(t, s.addr())
		expect(t, c, "bye")
		expectEnd(t, c)
		c.Close()
		s.expectClosed(map[string]int{"backend_eof": 1})
	})
}

func TestBackendKilled(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := deaf(t)
		s := sluice(t, mode, "--acceptors", "1", "--listen", "127.0.0.1:0", "--backend", p.addr)
		c := dial(t, s.addr())
		send(t, c, "lost")
		eventually(t, patience, "the backend has been sent the bytes", func() bool {
			return s.metric("sluice_backend_sent_bytes_total") == 4
		})
		p.kill()
		expectReset(t, c)
		s.expectClosed(map[string]int{"backend_reset": 1})

		expectRefusal(t, s.addr())
		s.expectClosed(map[string]int{"backend_reset": 1, "connect_failed": 1})
		eventually(t, patience, "the log tells of it", func() bool {
			return strings.Contains(s.logged(), `"msg":"backend does not take connections"`) &&
				strings.Contains(s.logged(), `"class":"refused"`)
		})

		startPeer(t, p.addr, func(c *net.TCPConn) { c.Close() })
		expectEnd(t, dial(t, s.addr()))
		eventually(t, patience, "the log tells that it is back", func() bool {
			return strings.Contains(s.logged(), `"msg":"backend takes connections again"`)
		})
	})
}

func TestRefused(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		t.Run("one", func(t *testing.T) {
			s := sluice(t, mode, "--acceptors", "1", "--listen", "127.0.0.1:0",
				"--backend", refusing(t), "--backend", namer(t, 'a').addr)
			const n = 10
			for range n {
				askName(t, dial(t, s.addr()))
			}
			// One session meets the one that refuses, and it is picked last from then on.
			if got := s.metric("sluice_backend_connect_errors_total", `reason="refused"`); got != 1 {
				t.Errorf("refused: %v, want 1", got)
			}
			if got := s.metric("sluice_pool_retries_total"); got != 1 {
				t.Errorf("retries: %v, want 1", got)
			}
		})
		t.Run("all", func(t *testing.T) {
			s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", refusing(t), "--backend", refusing(t))
			expectRefusal(t, s.addr())
			s.expectClosed(map[string]int{"connect_failed": 1})
			if got := s.metric("sluice_backend_connect_errors_total", `reason="refused"`); got != 2 {
				t.Errorf("refused: %v, want both", got)
			}
		})
	})
}

func TestBlackhole(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		silent := blackhole(t)
		t.Run("one", func(t *testing.T) {
			s := sluice(t, mode, "--acceptors", "1", "--listen", "127.0.0.1:0", "--connect-timeout", "100ms",
				"--backend", silent, "--backend", namer(t, 'a').addr)
			for range 4 {
				askName(t, dial(t, s.addr()))
			}
			if got := s.metric("sluice_backend_connect_errors_total", `reason="timeout"`); got != 1 {
				t.Errorf("timeouts: %v, want 1: it is picked last after that", got)
			}
		})
		t.Run("all", func(t *testing.T) {
			s := sluice(t, mode, "--listen", "127.0.0.1:0", "--connect-timeout", "100ms", "--backend", silent)
			begin := time.Now()
			expectRefusal(t, s.addr())
			if took := time.Since(begin); took < 100*time.Millisecond {
				t.Errorf("given up after %v, before the connect timeout", took)
			}
			s.expectClosed(map[string]int{"connect_timeout": 1})
		})
	})
}

func TestNameThatDoesNotResolve(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		good := "localhost" + strings.TrimPrefix(namer(t, 'a').addr, "127.0.0.1")
		t.Run("one", func(t *testing.T) {
			s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", "nonexistent.invalid:80", "--backend", good)
			s.tells(`"msg":"backend name does not resolve","name":"nonexistent.invalid"`, func(n int) bool { return n > 0 })
			for range 4 {
				askName(t, dial(t, s.addr()))
			}
		})
		t.Run("all", func(t *testing.T) {
			s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", "nonexistent.invalid:80")
			expectRefusal(t, s.addr())
			s.expectClosed(map[string]int{"no_backend": 1})
			if got := s.metric("sluice_pool_no_backend_total"); got != 1 {
				t.Errorf("no_backend: %v, want 1", got)
			}
		})
	})
}

// service is a configuration with one listener "main" and the given lines in it.
func service(t *testing.T, backend string, lines ...string) string {
	t.Helper()
	return configFile(t, fmt.Sprintf(`
[listener.main]
bind = "127.0.0.1:0"
pool = "main"
%s
[pool.main]
backends = [%q]
`, strings.Join(lines, "\n"), backend))
}

func TestDeadlines(t *testing.T) {
	for _, row := range []struct {
		reason, line string
		talk         func(t *testing.T, c *net.TCPConn)
		seen         func(t *testing.T, c net.Conn)
	}{
		{"idle_timeout", `idle_timeout = "300ms"`, func(*testing.T, *net.TCPConn) {}, expectEnd},
		{"first_byte_timeout", `first_byte_timeout = "300ms"`, func(*testing.T, *net.TCPConn) {}, expectEnd},
		{"half_closed_timeout", `half_closed_timeout = "300ms"`, func(t *testing.T, c *net.TCPConn) {
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}, expectEnd},
		{"max_duration", "max_duration = \"300ms\"\nmax_duration_jitter = 0", func(*testing.T, *net.TCPConn) {}, expectReset},
	} {
		t.Run(row.reason, func(t *testing.T) {
			modes(t, func(t *testing.T, mode string) {
				s := sluice(t, mode, "-c", service(t, deaf(t).addr, row.line))
				c, begin := dial(t, s.addr()), time.Now()
				row.talk(t, c)
				row.seen(t, c)
				// The dial may return a moment after the accept that begins the session.
				if took := time.Since(begin); took < 250*time.Millisecond {
					t.Errorf("ended after %v, before its time", took)
				}
				s.expectClosed(map[string]int{row.reason: 1})
			})
		})
	}
}

// A session outlives deadlines that do not concern it: bytes put off the idle one,
// the first byte stills its own, and an open session is not half-closed.
func TestDeadlinesLetBusySessionsLive(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "-c", service(t, echoing(t).addr,
			`idle_timeout = "1s"`, `first_byte_timeout = "500ms"`, `half_closed_timeout = "500ms"`))
		c := dial(t, s.addr())
		for range 8 {
			send(t, c, "tick")
			expect(t, c, "tick")
			time.Sleep(200 * time.Millisecond) // the pace of the talk, not a wait for something
		}
		s.expectClosed(map[string]int{})
	})
}

func TestMaxSessions(t *testing.T) {
	const most = 5
	for _, row := range []struct{ name, text string }{
		{"listener", "[listener.main]\nmax_sessions = 5\n"},
		{"service", "[limits]\nmax_sessions = 5\n[listener.main]\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode string) {
				s := sluice(t, mode, "--acceptors", "4", "-c", configFile(t, row.text+fmt.Sprintf(`
bind = "127.0.0.1:0"
pool = "main"
[pool.main]
backends = [%q]
`, namer(t, 'a').addr)))
				var held []net.Conn
				for range most {
					c := dial(t, s.addr())
					askName(t, c)
					held = append(held, c)
				}
				for range 3 {
					expectRefusal(t, s.addr())
				}
				if got := s.metric("sluice_listener_rejected_connections_total", `reason="max_sessions"`); got != 3 {
					t.Errorf("rejected: %v, want 3", got)
				}
				if got := s.metric("sluice_acceptor_accepted_connections_total"); got != most+3 {
					t.Errorf("accepted: %v, want %d", got, most+3)
				}
				held[0].Close()
				eventually(t, patience, "a place is free", func() bool { return s.sessions() == most-1 })
				askName(t, dial(t, s.addr()))
				expectRefusal(t, s.addr())
			})
		})
	}
}

func TestMetricsAreClean(t *testing.T) {
	promtool := need(t, "promtool", "prometheus")
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", namer(t, 'a').addr)
		askName(t, dial(t, s.addr()))
		_, page := s.get("/metrics")
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(page)
		var out bytes.Buffer
		check.Stdout, check.Stderr = &out, &out
		if err := check.Run(); err != nil || out.Len() > 0 {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}
