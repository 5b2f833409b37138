package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A name that stands for more addresses than may have series of their own has one of each
// kind. Its totals go on while addresses come and go, before and after the last session of
// one ends; a reload with a larger bound shows each again.
func TestAddressSeries(t *testing.T) {
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		const name = `backend="srv:_app._tcp.test"`
		names := startNameServer(t)
		var at []string
		for i := range 4 {
			at = append(at, namer(t, byte('a'+i)).addr)
		}
		names.serves(false, at...)
		text := func(bound int) string {
			return fmt.Sprintf("[admin]\naddress_series = %d\n[dns]\nservers = [%q]\nttl_min = \"100ms\"\n", bound, names.addr) +
				acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") + poolOf("app", []string{"srv:_app._tcp.test"})
		}
		path := configFile(t, text(3))
		s := sluice(t, mode, "-c", path)
		shares := func() bool { return s.metric("sluice_backend_state_info", name, `address="*"`) > 0 }
		if !shares() || s.metric("sluice_backend_addresses", name) != 4 {
			t.Fatal("4 addresses do not share their series")
		}
		if _, body := s.get("/metrics"); strings.Count(body, `address="127.0.0.1:`) > 0 {
			t.Error("an address has series of its own")
		}
		if n := s.metric("sluice_backend_state_info", name, `state="up"`); n != 4 {
			t.Errorf("%v addresses are up, want 4", n)
		}

		sessions, was := 0, 0.0
		total := func() float64 {
			t.Helper()
			n := s.metric("sluice_backend_connections_total", name)
			if n < was {
				t.Errorf("the total fell from %v to %v", was, n)
			}
			was = n
			return n
		}
		visit := func(times int) {
			for range times {
				if c := dial(t, s.addr()); askName(t, c) != 0 {
					sessions++
					c.Close()
				}
			}
		}
		for round := range 3 {
			visit(5)
			held := dial(t, s.addr()) // this one stays with an address that leaves
			askName(t, held)
			sessions++
			eventually(t, patience, "all are counted", func() bool { return total() == float64(sessions) })
			kept := at[(round+1)%4:]
			kept = append(kept[:len(kept):len(kept)], at[:(round+1)%4]...)[:2+round%2]
			names.serves(false, kept...)
			eventually(t, patience, "addresses leave", func() bool { total(); return s.metric("sluice_backend_addresses", name) == float64(len(kept)) })
			if got := total(); got != float64(sessions) || s.metric("sluice_backend_active_connections", name) < 1 {
				t.Errorf("round %d: %v sessions after an address has left, want %d", round, got, sessions)
			}
			held.Close()
			names.serves(false, at...)
			eventually(t, patience, "addresses come", func() bool { total(); return s.metric("sluice_backend_addresses", name) == 4 })
		}
		visit(3)
		eventually(t, patience, "all are counted", func() bool { return total() == float64(sessions) })

		if err := os.WriteFile(path, []byte(text(0)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signal(syscall.SIGHUP)
		eventually(t, patience, "each has its own", func() bool {
			_, body := s.get("/metrics")
			return !strings.Contains(body, `address="*"`) && strings.Count(body, "\nsluice_backend_connections_total{address=\"127.0.0.1:") == 4
		})
		if err := os.WriteFile(path, []byte(text(2)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signal(syscall.SIGHUP)
		eventually(t, patience, "they share again", shares)
		if got := total(); got != float64(sessions) {
			t.Errorf("%v sessions in the end, want %d", got, sessions)
		}
	})
}
