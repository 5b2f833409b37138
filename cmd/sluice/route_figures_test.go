package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/metrics"
)

// bySource is a listener whose clients take routes by their address: 127.0.1.0/24 a, 127.0.2.0/24
// b, all others none. more are keys of it.
func bySource(backend string, names []string, more ...string) string {
	text := acceptorsTable(2, "hash") + poolOf("app", []string{backend}) + poolOf("other", []string{backend}) + listenerAt("main", "127.0.0.1:0", "app", more...)
	for i, name := range names {
		text += fmt.Sprintf("[listener.main.route.%s]\nsource = [\"127.0.%d.0/24\"]\npool = \"other\"\n", name, i+1)
	}
	return text
}

// route is one of a service's first listener.
func (s *instance) route(name string) (r metrics.Route) {
	s.t.Helper()
	for _, r := range s.status().Listeners[0].Routes {
		if r.Name == name {
			return r
		}
	}
	return metrics.Route{}
}

// roundTrip sends n bytes in and has them back.
func roundTrip(t *testing.T, c net.Conn, n int) {
	t.Helper()
	go func() { _, _ = c.Write(make([]byte, n)) }()
	b := make([]byte, 64<<10)
	for n > 0 {
		m, err := c.Read(b[:min(len(b), n)])
		if err != nil {
			t.Fatalf("%d bytes before the end: %v", n, err)
		}
		n -= m
	}
}

// The bytes of a route grow while its sessions run, are its own, add up to the listener's
// with those that took none, and outlive reloads, the end of sessions and a worker's death.
func TestBytesOfRoutes(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		s := startChanging(t, mode, bySource(backend, []string{"a", "b"}))
		const size = 3 << 20
		from := func(third byte) func(n int) {
			c := dialFrom(t, netip.AddrFrom4([4]byte{127, 0, third, 1}), s.addr())
			return func(n int) {
				t.Helper()
				if n == 0 {
					c.Close()
					return
				}
				roundTrip(t, c, n)
			}
		}
		expectRoute := func(name string, sessions uint64, active int64, bytes uint64) {
			t.Helper()
			is := metrics.Route{}
			eventually(t, patience, fmt.Sprintf("route %s has %d sessions, %d open, %d bytes each way", name, sessions, active, bytes), func() bool {
				is = s.route(name)
				return is.Sessions == sessions && is.Active == active && is.Received == bytes && is.Sent == bytes
			})
		}
		a, b, none := from(1), from(2), from(3)
		a(100)
		expectRoute("a", 1, 1, 100) // it runs on
		a(size)
		expectRoute("a", 1, 1, size+100)
		b(7)
		none(1000)
		expectRoute("b", 1, 1, 7)
		eventually(t, patience, "the listener has all", func() bool {
			return s.metric("sluice_listener_received_bytes_total") == size+100+7+1000
		})
		if in, out := s.metric("sluice_route_received_bytes_total"), s.metric("sluice_route_sent_bytes_total", `route="a"`); in != size+107 || out != size+100 {
			t.Errorf("metrics say %v of all, %v to a", in, out)
		}

		s.reload(bySource(backend, []string{"a", "b"}, "max_sessions = 100"))
		a(11)
		expectRoute("a", 1, 1, size+111)
		a(0)
		expectRoute("a", 1, 0, size+111)

		// b goes while a session of it runs. A new route must not count what that moves.
		s.reload(bySource(backend, []string{"a"}))
		s.awaitGeneration()
		s.reload(bySource(backend, []string{"a", "c"}))
		s.awaitGeneration()
		s.reload(bySource(backend, []string{"a", "c", "d"}))
		s.awaitGeneration()
		b(50)
		c := from(2)
		c(3)
		expectRoute("c", 1, 1, 3)
		expectRoute("d", 0, 0, 0)
		b(0)
		s.reload(bySource(backend, []string{"a", "b"}))
		if mode != "process" {
			return
		}
		again := from(1)
		again(9)
		expectRoute("a", 2, 1, size+120)
		for _, w := range s.status().Workers {
			kill(t, w.PID, 9)
		}
		eventually(t, startWithin, "both workers are new", func() bool {
			n := uint64(0)
			for _, w := range s.status().Workers {
				n += w.Restarts
			}
			return n == 2
		})
		expectRoute("a", 2, 0, size+120)
	})
}

// The access log names the route of a session, and its pool also where no backend took it.
func TestAccessLogNamesRoutes(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		path := filepath.Join(t.TempDir(), "access.log")
		s := startChanging(t, mode, bySource(refusing(t), []string{"a"})+logTable("all", path, `access_format = "{route} {pool} {client}"`))
		for third := range byte(2) {
			if entersFrom(t, fmt.Sprintf("127.0.%d.1", 2-third), s.addr()) {
				t.Error("it is served")
			}
		}
		is := ""
		eventually(t, patience, "two lines", func() bool {
			b, err := os.ReadFile(path)
			is = string(b)
			return err == nil && strings.Count(is, "\n") == 2
		})
		if !strings.Contains(is, "- app 127.0.2.1:") || !strings.Contains(is, "a other 127.0.1.1:") {
			t.Errorf("it says %s", is)
		}
	})
}
