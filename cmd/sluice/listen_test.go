package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// needIPv6 ends the test where loopback has no IPv6.
func needIPv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		unable(t, "no IPv6 on loopback: %v", err)
	}
	ln.Close()
}

func TestFamilies(t *testing.T) {
	needIPv6(t)
	for _, row := range []struct {
		name, bind, lines string
		v4, v6            bool
	}{
		{"IPv4", "127.0.0.1:0", "", true, false},
		{"IPv6", "[::1]:0", "", false, true},
		{"both", ":0", "", true, true},
		{"IPv6 only", "[::]:0", "ipv6_only = true", false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode string) {
				s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(`
[listener.main]
bind = %q
pool = "main"
%s
[pool.main]
backends = [%q]
`, row.bind, row.lines, echoing(t).addr)))
				_, port, err := net.SplitHostPort(s.addr())
				if err != nil {
					t.Fatal(err)
				}
				v4 := "127.0.0.1"
				if !row.v4 {
					v4 = "127.0.0.2" // on 127.0.0.1 the admin endpoint may have got the same port
				}
				for host, served := range map[string]bool{v4: row.v4, "::1": row.v6} {
					addr := net.JoinHostPort(host, port)
					if !served {
						if !refuses(addr) {
							t.Errorf("%s is not refused", addr)
						}
						continue
					}
					c := dial(t, addr)
					send(t, c, "hello")
					expect(t, c, "hello")
				}
			})
		})
	}
}

func TestIPv6Backend(t *testing.T) {
	needIPv6(t)
	modes(t, func(t *testing.T, mode string) {
		p := startPeer(t, "[::1]:0", func(c *net.TCPConn) {
			_, _ = c.Write([]byte("six"))
			c.Close()
		})
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", p.addr)
		expect(t, dial(t, s.addr()), "six")
	})
}

func TestSeveralListeners(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--acceptors", "2", "-c", configFile(t, fmt.Sprintf(`
[listener.one]
bind = "127.0.0.1:0"
pool = "a"
backlog = 7
[listener.two]
bind = "127.0.0.1:0"
pool = "b"
[pool.a]
backends = [%q]
[pool.b]
backends = [%q]
`, namer(t, 'a').addr, namer(t, 'b').addr)))
		for name, want := range map[string]byte{"one": 'a', "two": 'b'} {
			if got := askName(t, dial(t, s.addrs[name])); got != want {
				t.Errorf("listener %s leads to %c, want %c", name, got, want)
			}
			listener := fmt.Sprintf("listener=%q", name)
			if n := s.metric("sluice_acceptor_accepted_connections_total", listener); n != 1 {
				t.Errorf("listener %s has accepted %v", name, n)
			}
			if n := s.metric("sluice_acceptor_queue_length", listener); n != 0 {
				t.Errorf("in the queues of listener %s: %v", name, n)
			}
		}
		if limit := s.metric("sluice_acceptor_queue_limit", `listener="one"`, `acceptor="1"`); limit != 7 {
			t.Errorf("queue limit %v, want the backlog, 7", limit)
		}
		if drops := s.metric("sluice_acceptor_queue_drops_total"); drops != 0 {
			t.Errorf("drops %v", drops)
		}
	})
}

// refusedStart runs the program to its end, which must be a failed start.
func refusedStart(t *testing.T, mode, addr string, causes ...string) {
	t.Helper()
	s := launch(t, nil, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--listen", addr, "--backend", "127.0.0.1:9")
	if status := s.wait(startWithin); status != exitFault {
		t.Errorf("exit status %d", status)
	}
	for _, cause := range append(causes, `listener \"main\"`, "address already in use") {
		if !strings.Contains(s.logged(), cause) {
			t.Errorf("the error does not say %q:\n%s", cause, s.logged())
		}
	}
}

func TestPortHeldPlainly(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		held := echoing(t).addr
		refusedStart(t, mode, held, "another user's process", "did not set SO_REUSEPORT")
		check := launch(t, nil, "check", "--listen", held, "--backend", "127.0.0.1:9") // binds nothing, so it cannot fail
		if status := check.wait(startWithin); status != exitOK {
			t.Errorf("check: exit status %d", status)
		}
	})
}

// hammer connects to addr, one connection after the other, until stop is called. Each
// must be served; stop returns how many were.
func hammer(t *testing.T, addr string) (stop func() int) {
	end, ended, served := make(chan struct{}), make(chan struct{}), 0
	one := func() error {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	}
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			if err := one(); err != nil {
				t.Errorf("connection %d: %v", served, err)
				return
			}
			served++
		}
	}()
	return func() int {
		close(end)
		<-ended
		return served
	}
}

// A second sluice and `sluice check` take none of the connections of the one that
// serves.
func TestSecondInstanceIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", namer(t, 'a').addr)
		stop := hammer(t, s.addr())
		for range 3 {
			refusedStart(t, mode, s.addr(), "another process of this user", "share = true")
			check := launch(t, nil, "check", "--listen", s.addr(), "--backend", "127.0.0.1:9")
			if status := check.wait(startWithin); status != exitOK {
				t.Errorf("check: exit status %d", status)
			}
		}
		if n := stop(); n < 10 {
			t.Errorf("only %d connections meanwhile", n)
		}
	})
}

func TestSharedPort(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		file := func(bind string, name byte) string {
			return configFile(t, fmt.Sprintf(`
[listener.main]
bind = %q
pool = "main"
share = true
[pool.main]
backends = [%q]
`, bind, namer(t, name).addr))
		}
		first := sluice(t, mode, "-c", file("127.0.0.1:0", 'a'))
		second := sluice(t, mode, "-c", file(first.addr(), 'b'))
		seen := map[byte]bool{}
		// 64 connections all miss one of two even shares once in 2^63 runs.
		for range 64 {
			c := dial(t, first.addr())
			seen[askName(t, c)] = true
			c.Close()
		}
		if !seen['a'] || !seen['b'] {
			t.Errorf("a serves: %v, b serves: %v", seen['a'], seen['b'])
		}
		if status := first.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
		if name := askName(t, dial(t, second.addr())); name != 'b' {
			t.Errorf("%c serves after a has left", name)
		}
	})
}

// A connection inherits the options of the socket it was accepted on: here the
// keepalive, whose timer the kernel shows.
func TestAcceptedKeepalive(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		for line, want := range map[string]time.Duration{`keepalive = "42s"`: 42 * time.Second, `keepalive = "0s"`: 0} {
			s := sluice(t, mode, "-c", service(t, echoing(t).addr, line))
			c := dial(t, s.addr())
			send(t, c, "hello")
			expect(t, c, "hello")
			eventually(t, patience, line, func() bool {
				left := keepaliveTimer(t, s.addr(), c.LocalAddr().String())
				return left <= want && left >= want-2*time.Second
			})
		}
	})
}

// keepaliveTimer is when the kernel next probes an IPv4 connection; 0 = never. It
// shows another timer, for a moment, while bytes are under way: then it is negative.
func keepaliveTimer(t *testing.T, at, from string) time.Duration {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ends := " " + kernelAddr(t, at) + " " + kernelAddr(t, from) + " "
	for line := range strings.Lines(string(table)) {
		if !strings.Contains(line, ends) {
			continue
		}
		f := strings.Fields(line)
		var kind, ticks int64
		if _, err := fmt.Sscanf(f[5], "%x:%x", &kind, &ticks); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch kind {
		case 0:
			return 0
		case 2:
			return time.Duration(ticks) * (time.Second / 100) // USER_HZ
		}
		return -time.Hour
	}
	t.Fatalf("no connection from %s to %s", from, at)
	return 0
}

// kernelAddr writes an IPv4 address as /proc/net/tcp does on a little-endian machine.
func kernelAddr(t *testing.T, addr string) string {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ip := a.Addr().As4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port())
}
