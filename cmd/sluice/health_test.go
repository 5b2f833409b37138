package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// healthOf is a table of checks, fast enough for a test.
func healthOf(pool, check string, lines ...string) string {
	text := fmt.Sprintf("[pool.%s.health]\ncheck = %q\ninterval = \"100ms\"\ntimeout = \"10s\"\n", pool, check)
	for _, l := range lines {
		text += l + "\n"
	}
	return text
}

// reserve keeps the port of an address from others, while nothing listens there.
func reserve(t *testing.T) (addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil { // a listener may join
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return local(sa.(*syscall.SockaddrInet4).Port)
}

// namedBy is a backend that sends its name.
func namedBy(name byte) func(c *net.TCPConn) {
	return func(c *net.TCPConn) {
		defer c.Close()
		if _, err := c.Write([]byte{name}); err == nil {
			_, _ = c.Read(make([]byte, 1))
		}
	}
}

// target is the only target of a backend.
func (s *instance) target(backend string) (found metrics.TargetStats) {
	s.t.Helper()
	for _, p := range s.status().Pools {
		for _, b := range p.Backends {
			if b.Name == backend {
				return b.Targets[0]
			}
		}
	}
	s.t.Fatalf("there is no backend %s", backend)
	return found
}

func (s *instance) awaitState(backend string, want metrics.TargetState) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%s is %s", backend, want), func() bool { return s.target(backend).State == want })
}

// A backend that is killed is taken out, no session fails, and it comes back with a share
// that grows.
func TestKilledBackendIsTakenOut(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		addr := reserve(t)
		b, a := startPeer(t, addr, namedBy('b')), namer(t, 'a')
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(2, "auto")+
			listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{a.addr, addr}, `slow_start = "10m"`)+healthOf("app", "tcp")))
		got := map[byte]int{}
		ask := func() {
			c := dial(t, s.addr())
			got[askName(t, c)]++
			c.Close()
		}
		for range 20 {
			ask()
		}
		if got['b'] < 8 || got['b'] > 12 { // each acceptor takes its own turns
			t.Fatalf("b got %d of 20 sessions", got['b'])
		}
		b.kill()
		begin := time.Now()
		eventually(t, patience, "it is down", func() bool {
			ask()
			return s.target(addr).State == metrics.TargetDown
		})
		t.Logf("down after %v", time.Since(begin))
		if up := s.metric("sluice_backend_up", fmt.Sprintf("backend=%q", addr)); up != 0 {
			t.Errorf("sluice_backend_up is %v", up)
		}
		if n := s.metric("sluice_backend_check_failures_total", fmt.Sprintf("backend=%q", addr), `reason="refused"`); n < 3 {
			t.Errorf("%v checks failed", n)
		}
		for range 20 {
			ask()
		}
		startPeer(t, addr, namedBy('b'))
		s.awaitState(addr, metrics.TargetWarming)
		// The share of one that has just come back is far below a tenth for a minute.
		eventually(t, patience, "it is not failing any more", func() bool { return s.metric("sluice_backend_failing") == 0 })
		clear(got)
		for range 40 {
			ask()
		}
		if got['b'] > 6 {
			t.Errorf("b got %d of 40 sessions while it warms up", got['b'])
		}
		if failed := s.metric("sluice_pool_no_backend_total") + s.metric("sluice_listener_closed_connections_total", `reason="connect_failed"`); failed != 0 {
			t.Errorf("%v sessions failed", failed)
		}
		for text, times := range map[string]int{"backend is down": 1, "backend is up": 1} {
			s.tells(fmt.Sprintf(`"msg":%q`, text), func(n int) bool { return n == times })
		}
	})
}

// What a check over HTTP says holds, though the backend takes connections; with too few
// healthy ones all are used. A reload without checks ends all that.
func TestBackendThatSaysItIsIll(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ill.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer h.Close()
		backend := namer(t, 'a')
		health := healthOf("app", "http", `path = "/health"`, fmt.Sprintf("port = %d", h.Listener.Addr().(*net.TCPAddr).Port))
		text := func(health string, lines ...string) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") + poolOf("app", []string{backend.addr}, lines...) + health
		}
		s := startChanging(t, mode, text(health))
		s.awaitState(backend.addr, metrics.TargetUp)
		ill.Store(true)
		s.awaitState(backend.addr, metrics.TargetDown)
		expectRefusal(t, s.addr())
		if reason := s.target(backend.addr).Check.Error; reason != "status 503" {
			t.Errorf("the check says %q", reason)
		}
		s.reload(text(health, "panic_below = 0.5"))
		if state := s.target(backend.addr).State; state != metrics.TargetPanic || s.metric("sluice_pool_panic") != 1 {
			t.Errorf("it is %s, and sluice_pool_panic %v", state, s.metric("sluice_pool_panic"))
		}
		if !servedBy(t, s.addr(), 'a') {
			t.Error("in panic nobody serves")
		}
		s.tells("too few backends are healthy", func(n int) bool { return n == 1 })
		s.reload(text(health))
		s.awaitState(backend.addr, metrics.TargetDown)
		s.reload(text(""))
		if state := s.target(backend.addr).State; state != metrics.TargetUp {
			t.Errorf("without checks it is %s", state)
		}
		if !servedBy(t, s.addr(), 'a') {
			t.Error("without checks nobody serves")
		}
	})
}

// order runs "sluice backend" for an instance.
func (c *changing) order(args ...string) (status int, out, faults string) {
	var stdout, stderr bytes.Buffer
	status = backend(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, append(args, "-socket", c.socket))
	return status, stdout.String(), stderr.String()
}

func (c *changing) mustOrder(args ...string) (out string) {
	c.t.Helper()
	status, out, faults := c.order(args...)
	if status != exitOK || faults != "" {
		c.t.Fatalf("sluice backend %v: status %d, %s%s", args, status, out, faults)
	}
	return out
}

// What an operator says holds through a reload and the death of every worker, until it is
// taken back or its time is over; sessions that run stay.
func TestOperatorsState(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		a, b := namer(t, 'a'), namer(t, 'b')
		text := func(retries int) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") +
				poolOf("app", []string{a.addr, b.addr}, fmt.Sprintf("retries = %d", retries)) + healthOf("app", "tcp")
		}
		s := startChanging(t, mode, text(1))
		ask := func(n int) map[byte]int {
			got := map[byte]int{}
			for range n {
				c := dial(t, s.addr())
				got[askName(t, c)]++
				c.Close()
			}
			return got
		}
		held := dial(t, s.addr())
		stays := askName(t, held)
		for stays != 'b' {
			held = dial(t, s.addr())
			stays = askName(t, held)
		}
		out := s.mustOrder(b.addr, "drain", "-reason", "new disk")
		if !strings.Contains(out, "in pool app: ") {
			t.Errorf("it says %q", out)
		}
		drained := func(when string) {
			t.Helper()
			if got := ask(20); got['b'] != 0 {
				t.Errorf("%s b gets %d of 20 sessions", when, got['b'])
			}
			found := s.target(b.addr)
			if o := found.Operator; found.State != metrics.TargetDraining || o == nil || o.Want != "drain" || o.Reason != "new disk" ||
				!strings.Contains(o.Who, fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid())) || time.Since(o.Since) > time.Hour {
				t.Errorf("%s it is %s: %+v", when, found.State, o)
			}
		}
		drained("drained,")
		if _, err := held.Write([]byte("x")); err != nil {
			t.Errorf("its session has ended: %v", err)
		}
		s.reload(text(2))
		drained("after a reload")
		if mode == "process" {
			for _, w := range s.awaitWorkers() {
				kill(t, w.PID, syscall.SIGKILL)
			}
			eventually(t, patience, "the workers are back", func() bool {
				for _, w := range s.status().Workers {
					if w.State != metrics.WorkerRunning || w.Restarts == 0 {
						return false
					}
				}
				return true
			})
			drained("after the workers died")
		}
		if s.metric("sluice_backend_state_info", fmt.Sprintf("backend=%q", b.addr), `state="draining"`) != 1 {
			t.Error("sluice_backend_state_info does not say so")
		}
		s.mustOrder(b.addr, "enable")
		if got := ask(40); got['b'] < 15 {
			t.Errorf("enabled, b gets %d of 40 sessions", got['b'])
		}
		s.mustOrder(b.addr, "weight", "3", "-pool", "app")
		if got := ask(40); got['b'] < 26 || got['b'] > 34 {
			t.Errorf("with weight 3 b gets %d of 40 sessions", got['b'])
		}
		s.mustOrder(b.addr, "disable", "-for", "300ms")
		if got := s.target(b.addr); got.State == metrics.TargetDisabled && got.Operator.Until.IsZero() {
			t.Error("it does not say until when")
		}
		s.awaitState(b.addr, metrics.TargetUp)
		for _, bad := range []struct {
			args   []string
			status int
			says   string
		}{
			{[]string{"10.9.9.9:1", "drain"}, exitFault, "there is no backend"},
			{[]string{a.addr, "drain", "-pool", "ap"}, exitFault, `there is no pool "ap"`},
			{[]string{a.addr, "stop"}, exitUsage, "must be one of drain, disable, enable, weight"},
			{[]string{a.addr}, exitUsage, "is missing"},
			{[]string{a.addr, "weight"}, exitUsage, "N is missing"},
			{[]string{a.addr, "weight", "x"}, exitUsage, "whole number"},
			{[]string{a.addr, "weight", "257"}, exitUsage, "from 0 to 256"},
			{[]string{a.addr, "drain", "now"}, exitUsage, "unexpected argument"},
			{[]string{a.addr, "enable", "-for", "1s"}, exitUsage, "has no time"},
		} {
			if status, _, faults := s.order(bad.args...); status != bad.status || !strings.Contains(faults, bad.says) {
				t.Errorf("sluice backend %v: status %d, %q", bad.args, status, faults)
			}
		}
	})
}
