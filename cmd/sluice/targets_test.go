package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A backend that turns out to be a listener of the service itself: sessions end with a
// reason of their own, no further one comes of them, and other listeners go on. The port
// is the kernel's choice, so no check of the file can see it.
func TestLoop(t *testing.T) {
	needIPv6(t)
	modesTogether(t, func(t *testing.T, mode string) {
		good := poolOf("good", []string{echoing(t).addr})
		text := func(backends ...string) string {
			return acceptorsTable(2, "hash") + good + poolOf("loop", backends) +
				listenerAt("one", "127.0.0.1:0", "loop") + listenerAt("all", "[::]:0", "loop") + listenerAt("web", "127.0.0.1:0", "good")
		}
		s := startChanging(t, mode, text(refusing(t)))
		port := func(listener string) string {
			_, port, err := net.SplitHostPort(s.addrs[listener])
			if err != nil {
				t.Fatal(err)
			}
			return port
		}
		at := func(listener string) string { return "127.0.0.1:" + port(listener) }
		ended := func() float64 {
			return s.metric("sluice_listener_closed_connections_total", `reason="loop"`)
		}
		want := 0.0
		for _, backend := range []string{
			"127.0.0.1:" + port("one"), "0.0.0.0:" + port("one"),
			"127.0.0.9:" + port("all"), "localhost:" + port("all"), "[::1]:" + port("all"), "[::]:" + port("all"),
		} {
			s.reload(text(backend))
			for _, l := range []string{"one", "all"} {
				expectRefusal(t, at(l))
				want++
			}
			eventually(t, patience, backend+": two sessions end as loops", func() bool { return ended() == want })
		}
		if got := s.metric("sluice_acceptor_accepted_connections_total", `listener="one"`) + s.metric("sluice_acceptor_accepted_connections_total", `listener="all"`); got != want {
			t.Errorf("%v connections were accepted, of them %v loops", got, want)
		}
		if !talks(dial(t, at("web"))) {
			t.Error("the other listener does not serve")
		}
		s.tells(`"msg":"this backend is a listener of this very sluice: its sessions are ended"`, func(n int) bool { return n > 0 })
	})
}

// A source that is no address of this machine is said at the start, and as it is; no
// session waits for it.
func TestSourceThatIsNotHere(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		text := acceptorsTable(1, "hash") + listenerAt("main", "127.0.0.1:0", "app") +
			poolOf("app", []string{echoing(t).addr, refusing(t)}, `source = "203.0.113.9"`, `connect_timeout = "1m"`)
		s := startChanging(t, mode, text)
		begin := time.Now()
		expectRefusal(t, s.addr())
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("the session ended after %v", took)
		}
		if got := s.metric("sluice_backend_connect_errors_total", `reason="no_source"`); got != 1 {
			t.Errorf("no_source: %v, want 1", got)
		}
		s.tells("203.0.113.9 is no address of this machine", func(n int) bool { return n == 1 })
		s.tells(`"msg":"the source address of this pool is not on this machine: no session gets a backend"`, func(n int) bool { return n == 1 })
		if strings.Contains(s.logged(), "no source port") {
			t.Error("the log complains of ports")
		}
		s.reload(strings.Replace(text, "203.0.113.9", "127.0.0.7", 1))
		if !talks(dial(t, s.addr())) {
			t.Error("a source that is here does not serve")
		}
	})
}

// A target of another family than the source is no way, and costs no retry.
func TestSourceOfTheOtherFamily(t *testing.T) {
	needIPv6(t)
	modesTogether(t, func(t *testing.T, mode string) {
		s := startChanging(t, mode, acceptorsTable(1, "hash")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{"[::1]:9", echoing(t).addr}, `source = "127.0.0.7"`, `retries = 0`))
		for range 4 {
			// With retries = 0 the first session has no second try but where there is no way.
			if !talks(dial(t, s.addr())) {
				t.Error("a session is not served")
			}
		}
	})
}

// A link-local backend is reached by its zone.
func TestLinkLocalBackend(t *testing.T) {
	at := linkLocal(t)
	modesTogether(t, func(t *testing.T, mode string) {
		p := startPeer(t, netip.AddrPortFrom(at, 0).String(), func(c *net.TCPConn) { c.Close() })
		addr := netip.AddrPortFrom(at, uint16(p.ln.Addr().(*net.TCPAddr).Port)).String()
		s := startChanging(t, mode, acceptorsTable(1, "hash")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{addr}, `source = "`+at.String()+`"`))
		expectEnd(t, dial(t, s.addr()))
	})
}

// linkLocal is a link-local address of this machine with its zone.
func linkLocal(t *testing.T) netip.Addr {
	t.Helper()
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && i.Flags&net.FlagUp != 0 {
				return p.Addr().WithZone(i.Name)
			}
		}
	}
	t.Skip("this machine has no link-local address")
	return netip.Addr{}
}
