package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/listener/steering"
	"sluice/metrics"
)

const acceptors = 4

// trials of each kind.
func trials() int {
	if testing.Short() {
		return 2
	}
	return 12
}

// needBPF ends a test where the programs of steering cannot be loaded.
func needBPF(t *testing.T) {
	t.Helper()
	err := steering.Probe().BPF
	switch {
	case err == nil:
	case os.Geteuid() == 0:
		unable(t, "no steering by BPF: %v", err)
	default:
		t.Skip("needs root or CAP_BPF: ", err)
	}
}

// steered starts four acceptors under a policy in front of an echo. Its listener has
// both families. lines are added to the acceptors' configuration.
//
// Where a test is about balance, not about hangs, let hangAfter be long: on a machine
// that does other things a thread may well wait for 100 ms for its turn.
func steered(t *testing.T, mode, policy string, hangAfter time.Duration, lines ...string) *instance {
	t.Helper()
	s := sluice(t, mode, "-c", configFile(t, steeredConfig(policy, hangAfter, echoing(t).addr, lines...)))
	if effective := s.status().Listeners[0].Steering.Effective; effective != policy {
		t.Fatalf("%s steers, want %s", effective, policy)
	}
	return s
}

func steeredConfig(policy string, hangAfter time.Duration, backend string, lines ...string) string {
	return fmt.Sprintf(`
[acceptors]
count = %d
steering = %q
hang_after = %q
%s
[listener.main]
bind = ":0"
pool = "main"
[pool.main]
backends = [%q]
`, acceptors, policy, hangAfter, strings.Join(lines, "\n"), backend)
}

// at is the listener's port on one of this machine's addresses.
func (s *instance) at(host string) string {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.addr())
	if err != nil {
		s.t.Fatal(err)
	}
	return net.JoinHostPort(host, port)
}

// held waits until total sessions are held, and returns how evenly.
func (s *instance) held(total int) (b metrics.Balance) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprint(total, " sessions held"), func() bool {
		b = s.status().Listeners[0].Balance.Held
		return b.Total == float64(total)
	})
	return b
}

// crowd is held connections.
type crowd struct {
	mu    sync.Mutex
	conns []*net.TCPConn
}

// join connects n clients to host, atATime of them at the same time. With several
// sources each comes from another address of 127.0.0.0/8.
func (c *crowd) join(t *testing.T, addr string, n, atATime int, sources bool) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var dialers sync.WaitGroup
	for range atATime {
		dialers.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				d := net.Dialer{Timeout: patience}
				if sources {
					d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i))}
				}
				conn, err := d.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.mu.Lock()
				c.conns = append(c.conns, conn.(*net.TCPConn))
				c.mu.Unlock()
			}
		})
	}
	dialers.Wait()
	if t.Failed() {
		c.leave(t)
		t.FailNow()
	}
}

// leave ends all by RST, so that no port stays taken.
func (c *crowd) leave(t *testing.T) {
	t.Helper()
	for _, conn := range c.conns {
		reset(t, conn)
	}
	c.conns = nil
}

// Whatever the clients are and however many, all acceptors hold the same number.
func TestHeldConnectionsAreSpreadExactly(t *testing.T) {
	needBPF(t)
	needIPv6(t)
	modes(t, func(t *testing.T, mode string) {
		for _, policy := range []string{"least", "round_robin"} {
			t.Run(policy, func(t *testing.T) {
				s := steered(t, mode, policy, 5*time.Second)
				for _, clients := range []struct {
					name, host string
					sources    bool
				}{
					{"IPv4", "127.0.0.1", false},
					{"IPv4 from many addresses", "127.0.0.1", true},
					{"IPv6", "::1", false},
				} {
					for _, n := range []int{16, 64, 256} {
						for range trials() {
							var c crowd
							c.join(t, s.at(clients.host), n, 8, clients.sources)
							if b := s.held(n); b.Jain < .9999 || b.Spread > 1 {
								t.Errorf("%s, %d held: Jain %.4f, max - min %.0f", clients.name, n, b.Jain, b.Spread)
							}
							c.leave(t)
							s.held(0)
						}
					}
				}
			})
		}
	})
}

// One acceptor holds 100 sessions that do not end, the others none. Those that come
// later go to the others until all hold the same, whatever the pace they come at.
func TestLeastLevelsALongLivedSkew(t *testing.T) {
	needBPF(t)
	modes(t, func(t *testing.T, mode string) {
		s := steered(t, mode, "least", 5*time.Second)
		const old = 100
		skewTo(t, s, 0, old)
		for _, pace := range []struct {
			name           string
			waves, atATime int
		}{
			{"one after the other", 1, 1},
			{"thirty at a time", 1, 30},
			{"in ten waves", 10, 10},
		} {
			var c crowd
			for range pace.waves {
				c.join(t, s.at("127.0.0.1"), 300/pace.waves, pace.atATime, false)
				time.Sleep(20 * time.Millisecond) // between waves
			}
			if b := s.held(old + 300); b.Spread != 0 {
				t.Errorf("%s: shares %v, want a quarter of the 400 each", pace.name, b.Shares)
			}
			c.leave(t)
			s.held(old)
		}
	})
}

// skewTo makes an acceptor hold n sessions, and the others none. They end with the test.
func skewTo(t *testing.T, s *instance, acceptor, n int) {
	t.Helper()
	var kept, others crowd
	t.Cleanup(func() { kept.leave(t) })
	before := make([]float64, acceptors)
	for i := 1; len(kept.conns) < n; i++ {
		var c crowd
		c.join(t, s.at("127.0.0.1"), 1, 1, false)
		b := s.held(i)
		to := &others
		if now := b.Shares[acceptor] * b.Total; now > before[acceptor]+.5 {
			to = &kept
			before[acceptor] = now
		}
		to.conns = append(to.conns, c.conns...)
	}
	others.leave(t)
	if b := s.held(n); b.Shares[acceptor] != 1 {
		t.Fatalf("shares %v, want all with acceptor %d", b.Shares, acceptor)
	}
}

// The figures of a minute's accepts have clients that came before anything was ready.
func TestBalanceCountsFromTheFirstConnection(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		const clients = 64
		port := local(freePort(t))
		s := launch(t, nil, "run", "--mode", mode, "--listen", port, "--backend", echoing(t).addr, "--acceptors", "2", "--admin", "127.0.0.1:0", "--log-format", "json")
		for made := 0; made < clients; {
			c, err := net.DialTimeout("tcp", port, time.Second)
			if err != nil { // nothing listens yet
				time.Sleep(100 * time.Microsecond)
				continue
			}
			t.Cleanup(func() { c.Close() })
			made++
		}
		s.awaitReady()
		var accepts float64
		eventually(t, stopWithin, "all accepts are in the window", func() bool {
			accepts = s.status().Listeners[0].Balance.Accepts.Total
			return accepts >= clients
		})
		if accepts != clients {
			t.Errorf("%v accepts, want %d", accepts, clients)
		}
	})
}
