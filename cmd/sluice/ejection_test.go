package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/config"
)

// moody is a backend that sends its name and waits while it is well, and resets each
// session while it is ill: at once, or when it has read a byte.
func moody(t *testing.T, name byte, ill *atomic.Bool, atOnce bool) *peer {
	return startPeer(t, "", func(c *net.TCPConn) {
		if ill.Load() {
			if !atOnce {
				_, _ = c.Read(make([]byte, 1))
			}
			_ = c.SetLinger(0)
			c.Close()
			return
		}
		namedBy(name)(c)
	})
}

// answeredBy is the name that a session gets, or 0 if it ends before.
func answeredBy(t *testing.T, addr string) byte {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b := []byte{0}
	if _, err := c.Write(b); err != nil {
		return 0
	}
	if _, err := c.Read(b); err != nil {
		return 0
	}
	return b[0]
}

// A backend that resets what it takes costs three sessions, whichever acceptors have them, and
// is not picked after that. A reload that says so gives it sessions back.
func TestEarlyClosesEject(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		ill.Store(true)
		sick, well := moody(t, 'b', &ill, false), namer(t, 'a')
		text := acceptorsTable(3, "auto") + listenerAt("web", "127.0.0.1:0", "app") + poolOf("app", []string{sick.addr, well.addr},
			"[pool.app.ejection]", `early = "1m"`, `time = "TIME"`, `max_time = "1h"`)
		c := startChanging(t, mode, strings.Replace(text, "TIME", "300ms", 1))
		lost := 0
		for range 30 {
			if answeredBy(t, c.addrs["web"]) == 0 {
				lost++
			}
			if c.metric("sluice_backend_failing") == 1 {
				break
			}
		}
		if lost != 3 {
			t.Errorf("%d sessions were lost, want 3", lost)
		}
		// While it is ill each further ejection costs one session.
		eventually(t, patience, "it is ejected again, for longer", func() bool {
			if answeredBy(t, c.addrs["web"]) == 0 {
				lost++
			}
			return c.metric("sluice_backend_ejections_total", `reason="early_close"`) == 3
		})
		if lost != 5 {
			t.Errorf("%d sessions were lost in three ejections, want 5", lost)
		}
		var seen bytes.Buffer
		if got := status(env{stdout: &seen, stderr: &seen, vars: config.Environment{}}, []string{"-socket", c.socket}); got != exitOK || !strings.Contains(seen.String(), "ejected: it closes sessions early") {
			t.Errorf("status %d:\n%s", got, &seen)
		}
		c.tells(`"msg":"backend closes sessions before it says a word: it is picked last for a time"`, func(n int) bool { return n >= 1 })

		ill.Store(false)
		eventually(t, patience, "it has sessions again", func() bool { return answeredBy(t, c.addrs["web"]) == 'b' })
		if n := c.metric("sluice_backend_failing"); n != 0 {
			t.Errorf("%v are failing", n)
		}
		c.write(strings.Replace(strings.Replace(text, `early = "1m"`, `early = "0s"`, 1), "TIME", "300ms", 1))
		if status, _, faults := c.ask(); status != exitOK {
			t.Fatalf("the reload is refused: %s", faults)
		}
		ill.Store(true)
		before := c.metric("sluice_backend_ejections_total")
		for range 20 {
			answeredBy(t, c.addrs["web"])
		}
		if n := c.metric("sluice_backend_ejections_total"); n != before {
			t.Errorf("%v ejections while it is turned off", n-before)
		}
	})
}

// One that resets before it was seen that it had accepted is ejected for the same, and its
// sessions go to another.
func TestResetsAtOnceEject(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		ill.Store(true)
		sick, well := moody(t, 'b', &ill, true), namer(t, 'a')
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(3, "auto")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{sick.addr, well.addr}, "[pool.app.ejection]", `early = "1m"`, `time = "1h"`, `max_time = "1h"`)))
		lost := 0
		for range 30 {
			if answeredBy(t, s.addr()) == 0 {
				lost++
			}
		}
		t.Logf("%d sessions were lost", lost)
		if n := s.metric("sluice_backend_ejections_total", `reason="early_close"`); n != 1 || lost > 3 {
			t.Errorf("%v ejections, and %d sessions lost", n, lost)
		}
	})
}

// The only backend of a pool is not ejected, and that is counted.
func TestEjectionsAreCapped(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		ill.Store(true)
		sick := moody(t, 'a', &ill, false)
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{sick.addr}, "[pool.app.ejection]", `early = "1m"`, "early_closes = 2")))
		for range 5 {
			answeredBy(t, s.addr())
		}
		if n := s.metric("sluice_pool_ejections_capped_total"); n != 4 {
			t.Errorf("%v are counted, want 4", n)
		}
		if n := s.metric("sluice_backend_ejections_total") + s.metric("sluice_backend_failing"); n != 0 {
			t.Errorf("it is ejected")
		}
		ill.Store(false)
		if got := answeredBy(t, s.addr()); got != 'a' {
			t.Errorf("%q answers", got)
		}
	})
}

// Of many sessions that come at once one waits for the silent backend of four, and the others
// are served.
func TestOneSessionWaitsForASilentBackend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		const sessions = 40
		s := sluice(t, mode, "-c", configFile(t, "[limits]\ndrain_timeout = \"0s\"\n"+acceptorsTable(4, "auto")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", append([]string{blackhole(t)}, echoes(t, 3)...), `connect_timeout = "2m"`)))
		served := make(chan error, sessions)
		for range sessions {
			go func() {
				c, err := net.DialTimeout("tcp", s.addr(), patience)
				if err == nil {
					t.Cleanup(func() { c.Close() })
					_, err = c.Write([]byte("x"))
				}
				if err == nil {
					_, err = c.Read(make([]byte, 1))
				}
				served <- err
			}()
		}
		late := time.After(patience)
		for n := range sessions - 1 {
			select {
			case err := <-served:
				if err != nil {
					t.Fatal(err)
				}
			case <-late:
				t.Fatalf("%d of %d sessions are served", n, sessions)
			}
		}
		if n := s.metric("sluice_backend_active_connections", fmt.Sprintf("backend=%q", s.status().Pools[0].Backends[0].Name)); n != 1 {
			t.Errorf("%v sessions wait for it, want 1", n)
		}
	})
}

// Those that sessions have found wanting count for panic: with too few left the ejected ones
// are used, and none is ejected, until sessions have proved that they serve.
func TestEjectedCountForPanic(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		ill.Store(true)
		a, b := moody(t, 'a', &ill, false), moody(t, 'b', &ill, false)
		addr := reserve(t)
		c, d := startPeer(t, addr, namedBy('c')), namer(t, 'd')
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{a.addr, b.addr, addr, d.addr}, "panic_below = 0.5", "[pool.app.ejection]", `early = "1m"`, `time = "1h"`, `max_time = "1h"`)))
		failing := func(n float64) func() bool {
			return func() bool { answeredBy(t, s.addr()); return s.metric("sluice_backend_failing") == n }
		}
		eventually(t, patience, "two are ejected", failing(2))
		if s.metric("sluice_pool_panic") != 0 {
			t.Error("panic with half of them left")
		}
		c.kill()
		eventually(t, patience, "panic", func() bool { answeredBy(t, s.addr()); return s.metric("sluice_pool_panic") == 1 })
		// c is what still fails: it takes no connections.
		eventually(t, patience, "the ejected are back", failing(1))
		ejections, lost := s.metric("sluice_backend_ejections_total", `reason="early_close"`), 0
		for range 20 {
			if answeredBy(t, s.addr()) == 0 {
				lost++
			}
		}
		if n := s.metric("sluice_backend_ejections_total", `reason="early_close"`); lost < 5 || n != ejections || s.metric("sluice_pool_ejections_capped_total") == 0 || s.metric("sluice_pool_panic") != 1 {
			t.Errorf("in panic %d of 20 sessions were lost, and %v were ejected", lost, n-ejections)
		}
		ill.Store(false)
		got := map[byte]bool{}
		eventually(t, patience, "the panic is over", func() bool { got[answeredBy(t, s.addr())] = true; return s.metric("sluice_pool_panic") == 0 })
		if !got['a'] && !got['b'] {
			t.Errorf("it is over, and %v answered", got)
		}
		for _, text := range []string{"too few backends are healthy: all are used", "enough backends are healthy again"} {
			s.tells(text, func(n int) bool { return n == 1 })
		}
	})
}
