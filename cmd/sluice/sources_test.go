package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

// atOnce connects n clients from one address and returns those that are served, still
// connected.
func atOnce(t *testing.T, n int, source, addr string) (in []net.Conn) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: patience}
			c, err := d.Dial("tcp", addr)
			if err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
				return
			}
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			if !talks(c) {
				c.Close()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			in = append(in, c)
			t.Cleanup(func() { c.Close() })
		})
	}
	all.Wait()
	return in
}

// Among many sources the one that exceeds its limit is held to it exactly, whichever
// acceptors its sessions meet; what it gives back it may have again, and so it is after all
// workers have died.
func TestSourceSessions(t *testing.T) {
	const limit, others = 5, 300
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t)
		s := startChanging(t, mode, acceptorsTable(2, "hash")+poolOf("app", []string{backend.addr})+
			listenerAt("main", "127.0.0.1:0", "app", fmt.Sprintf("source_sessions = %d", limit)))
		for i := range others {
			held := dialFrom(t, netip.AddrFrom4([4]byte{127, 20, byte(i >> 8), byte(i)}), s.addr())
			if i%100 == 0 && !talks(held) {
				t.Fatalf("source %d is not served", i)
			}
		}
		rejected := func() float64 {
			return s.metric("sluice_listener_rejected_connections_total", `reason="source_sessions"`)
		}
		in := atOnce(t, 40, "127.30.0.1", s.addr())
		if len(in) != limit || rejected() != 40-limit {
			t.Fatalf("%d of 40 are served, %v rejected; want %d", len(in), rejected(), limit)
		}
		if got := len(atOnce(t, 3, "127.30.0.2", s.addr())); got != 3 {
			t.Errorf("another source: %d of 3 are served", got)
		}
		for _, c := range in[:2] {
			c.Close()
		}
		eventually(t, patience, "two have gone", func() bool {
			sum := int64(0)
			for _, a := range s.status().Acceptors {
				sum += a.Sessions
			}
			return sum == others+3+limit-2
		})
		if got := len(atOnce(t, 10, "127.30.0.1", s.addr())); got != 2 {
			t.Errorf("after two have gone %d are served", got)
		}
		if n := s.metric("sluice_acceptor_sources_untracked_total"); n != 0 {
			t.Errorf("%v sessions are not counted", n)
		}
		if mode != "process" {
			return
		}
		for _, w := range s.status().Workers {
			if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		eventually(t, startWithin, "all workers are new", func() bool {
			n := uint64(0)
			for _, w := range s.status().Workers {
				n += w.Restarts
			}
			return n >= 2
		})
		s.awaitGeneration()
		if got := len(atOnce(t, 20, "127.30.0.1", s.addr())); got != limit {
			t.Errorf("after the workers have died %d are served, want %d", got, limit)
		}
	})
}

// A rate lets its burst in and no more, over all acceptors, for a source and for the
// listener; a delayed client is served later.
func TestRates(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		text := func(lines ...string) string {
			return acceptorsTable(2, "hash") + poolOf("app", []string{echoing(t).addr}) + listenerAt("main", "127.0.0.1:0", "app", lines...)
		}
		s := startChanging(t, mode, text("source_rate = 1", "source_burst = 20"))
		begin := time.Now()
		in := len(atOnce(t, 40, "127.30.0.1", s.addr()))
		if most := 20 + int(time.Since(begin)/time.Second) + 1; in < 20 || in > most {
			t.Errorf("%d of 40 are served, want 20 to %d", in, most)
		}
		if got := s.metric("sluice_listener_rejected_connections_total", `reason="source_rate"`); got != float64(40-in) {
			t.Errorf("rejected: %v of %d", got, 40-in)
		}
		if !entersFrom(t, "127.30.0.2", s.addr()) {
			t.Error("another source is turned away")
		}
		s.reload(text("rate = 1", "burst = 10", "source_rate = 1000"))
		s.awaitGeneration()
		begin = time.Now()
		served := 0
		for i := range 30 {
			if entersFrom(t, fmt.Sprintf("127.31.0.%d", i+1), s.addr()) {
				served++
			}
		}
		if most := 10 + int(time.Since(begin)/time.Second) + 1; served < 10 || served > most {
			t.Errorf("of 30 sources %d are served, want 10 to %d", served, most)
		}
		s.reload(text("rate = 20", "burst = 1", `over = "delay"`))
		s.awaitGeneration()
		begin = time.Now()
		if got := len(atOnce(t, 20, "127.30.0.3", s.addr())); got != 20 {
			t.Errorf("of 20 that may be delayed %d are served", got)
		}
		if took := time.Since(begin); took < 19*time.Second/20 {
			t.Errorf("20 at 20 a second took %v", took)
		}
	})
}
