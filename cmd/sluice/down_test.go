package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// With on_down = "cut" idle sessions on a backend that its check finds down are reset, and
// clients that come back are served by another. With "stay", and after a reload that says so,
// they go on. No other session ends.
func TestSessionsOfADownBackend(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		const held = 20
		var ill atomic.Bool
		sick, well := namer(t, 'b'), namer(t, 'a')
		check := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ill.Load() && r.Host == sick.addr {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer check.Close()
		pool := func(name, backend, spare string) string {
			return poolOf(name, []string{backend, spare + " backup"}, `on_down = "MODE"`) +
				healthOf(name, "http", "port = "+strings.TrimPrefix(check.Listener.Addr().String(), "127.0.0.1:"))
		}
		text := acceptorsTable(2, "auto") + listenerAt("sick", "127.0.0.1:0", "sick") + listenerAt("well", "127.0.0.1:0", "well") +
			pool("sick", sick.addr, well.addr) + pool("well", well.addr, sick.addr)
		c := startChanging(t, mode, strings.ReplaceAll(text, "MODE", "stay"))
		hold := func(listener string, want byte) (conns []net.Conn) {
			t.Helper()
			for range held {
				conn := dial(t, c.addrs[listener])
				if got := askName(t, conn); got != want {
					t.Fatalf("%q answers", got)
				}
				conns = append(conns, conn)
			}
			return conns
		}
		onSick, onWell := hold("sick", 'b'), hold("well", 'a')
		ill.Store(true)
		eventually(t, patience, "it is down", func() bool { return c.status().Pools[0].Backends[0].Targets[0].State != metrics.TargetUp })
		if n := c.metric("sluice_acceptor_active_connections", `listener="sick"`); n != held {
			t.Fatalf("%v sessions are left, want %d", n, held)
		}
		c.write(strings.ReplaceAll(text, "MODE", "cut"))
		if status, _, faults := c.ask(); status != exitOK {
			t.Fatal(faults)
		}
		for _, conn := range onSick {
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && err != io.EOF {
				t.Fatalf("%v", err)
			}
		}
		reason := func(listener, reason string) float64 {
			return c.metric("sluice_listener_closed_connections_total", `listener="`+listener+`"`, `reason="`+reason+`"`)
		}
		if n := reason("sick", "backend_down"); n != held {
			t.Errorf("%v sessions ended as backend_down, want %d", n, held)
		}
		hold("sick", 'a')
		for _, conn := range onWell {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("a session of another pool: %v", err)
			}
		}
		ill.Store(false)
		eventually(t, patience, "it is up", func() bool { return c.status().Pools[0].Backends[0].Targets[0].State == metrics.TargetUp })
		more := hold("sick", 'b')
		ill.Store(true)
		for _, conn := range more {
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("a session goes on")
			}
		}
	})
}
