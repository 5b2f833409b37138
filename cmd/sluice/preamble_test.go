package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A client that says nothing, or not enough, is cut; and costs the others nothing.
func TestSlowPreambleIsCut(t *testing.T) {
	a := startSite(t, nil, 0, "a.example.com")
	modesTogether(t, func(t *testing.T, mode string) {
		const limit = time.Second
		s := sluice(t, mode, "-c", configFile(t, fmt.Sprintf(routedFile, limit, a.addr, a.addr, a.addr)))
		begin := time.Now()
		silent, half, slow := dial(t, s.addr()), dial(t, s.addr()), dial(t, s.addr())
		send(t, half, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		done := make(chan struct{})
		go func() { // a byte now and then, for as long as it may
			defer close(done)
			for _, x := range []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 1000)) {
				if _, err := slow.Write([]byte{x}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		conn := secure(t, dial(t, s.addr()), a, "a.example.com")
		send(t, conn, "hello\n")
		expect(t, conn, "a.example.com hello\n")
		conn.Close()
		expectReset(t, silent)
		expectReset(t, half)
		<-done // its write has the RST
		if took := time.Since(begin); took < limit {
			t.Errorf("cut after %v, want %v", took, limit)
		}
		if n := s.metric("sluice_listener_closed_connections_total", `reason="preamble_timeout"`); n != 3 {
			t.Errorf("%.0f were late, want 3", n)
		}
		s.awaitIdle()
	})
}

// awaitPlan waits until all acceptors run the plan in force.
func (c *changing) awaitPlan(acceptors int) {
	c.t.Helper()
	eventually(c.t, patience, "the plan in every acceptor", func() bool {
		return c.metric("sluice_acceptor_generation") == float64(acceptors)*c.metric("sluice_config_generation")
	})
}

// What a file gets wrong of all this is reported at once, with its place.
func TestPreambleFaults(t *testing.T) {
	path := configFile(t, `
[listener.main]
bind = "127.0.0.1:0"
pool = "app"
proxy_protocol = "required"
buffer = "8KiB"
[listener.main.route.a]
pool = "ap"
sni = ["*"]
[pool.app]
backends = ["127.0.0.1:1"]
send_proxy_tlvs = ["crc32c"]
`)
	s := launch(t, nil, "check", "-c", path)
	<-s.ended
	for _, want := range []string{
		":5:1: listener.main.proxy_protocol: needs proxy_protocol_from", ":6:1: listener.main.buffer: must be at least 16384",
		`:8:1: listener.main.route.a.pool: there is no [pool.ap]`, ":9:1: listener.main.route.a.sni: must be a list of host names",
		`:12:1: pool.app.send_proxy_tlvs: needs send_proxy = "v2"`,
	} {
		if !strings.Contains(s.logged(), want) {
			t.Errorf("check does not say %s:\n%s", want, s.logged())
		}
	}
}
