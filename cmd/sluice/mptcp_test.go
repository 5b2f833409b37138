package main

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
)

// listenSpeaking makes the listener of a backend that speaks Multipath TCP, or does not.
func listenSpeaking(t *testing.T, addr string, multipath bool) *net.TCPListener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(multipath)
	ln, err := c.Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// A pool speaks Multipath TCP with a backend that can, and plain TCP with one that can't or
// where the kernel has none, which the log says. Bytes, half-closes and resets are as ever,
// by splice(2) too.
func TestPoolSpeaksMPTCP(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		const setting = "/proc/sys/net/mptcp/enabled"
		set := func(value string) {
			if err := os.WriteFile(setting, []byte(value), 0); err != nil {
				unable(t, "this kernel has no Multipath TCP: %v", err)
			}
		}
		defer set("1")
		modes(t, func(t *testing.T, mode string) {
			set("1")
			speaks, plain := listenSpeaking(t, "10.77.0.1:0", true), listenSpeaking(t, "10.77.0.1:0", false)
			s := startChanging(t, mode, acceptorsTable(2, "auto")+
				listenerAt("spliced", "10.77.0.1:0", "app", `relay = "splice"`)+listenerAt("copied", "10.77.0.1:0", "app", `relay = "copy"`)+
				listenerAt("from", "10.77.0.1:0", "from")+listenerAt("plain", "10.77.0.1:0", "plain")+
				poolOf("app", []string{speaks.Addr().String()}, "mptcp = true")+poolOf("plain", []string{plain.Addr().String()}, "mptcp = true")+
				poolOf("from", []string{speaks.Addr().String()}, "mptcp = true", `source = "127.0.0.9"`, "mark = 7", "tos = 16", `congestion = "reno"`, `user_timeout = "5s"`))
			if !strings.Contains(s.logged(), "pool.from.mptcp: user_timeout: set TCP_USER_TIMEOUT: ") {
				t.Log("this kernel has TCP_USER_TIMEOUT for Multipath TCP")
			}
			session := func(listener string, ln *net.TCPListener, multipath bool) [2]*net.TCPConn {
				t.Helper()
				ends := connect(t, s.addrs[listener], ln)
				if is, err := ends[1].MultipathTCP(); is != multipath || err != nil {
					t.Errorf("listener %s: the backend's connection is Multipath TCP: %t, %v", listener, is, err)
				}
				return ends
			}
			for listener, ln := range map[string]*net.TCPListener{"spliced": speaks, "copied": speaks, "from": speaks, "plain": plain} {
				ends := session(listener, ln, ln == speaks)
				if err := exchange(ends, [2]transfer{{1, 8 << 20, 1 << 20}, {2, 8 << 20, 100_000}}); err != nil {
					t.Errorf("listener %s: %v", listener, err)
				}
				for side := range ends { // each breaks its connection in the middle
					ends := session(listener, ln, ln == speaks)
					if _, err := ends[side].Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
					expect(t, ends[side^1], "x")
					reset(t, ends[side])
					expectReset(t, ends[side^1])
				}
			}
			if n := s.metric("sluice_listener_sent_bytes_total", `listener="spliced"`, `path="splice"`); n < 8<<20 {
				t.Errorf("%v bytes were spliced", n)
			}
			s.awaitIdle()

			set("0")
			told := func(n int) { s.tells("this kernel has no Multipath TCP", func(have int) bool { return have == n }) }
			told(0)
			session("copied", speaks, false)
			told(1)
			if check := launch(t, nil, "check", "-c", s.path); check.wait(startWithin) != exitOK || !strings.Contains(check.logged(), "pool.app.mptcp: socket: protocol not available (it needs net.mptcp.enabled = 1)") {
				t.Errorf("check says\n%s", check.logged())
			}
			set("1")
			session("copied", speaks, true)
		})
	})
}
