package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A reload that changes buffer gives new sessions other buffers, on both sides, and leaves
// those that run alone.
func TestReloadChangesBuffer(t *testing.T) {
	ss := need(t, "ss", "iproute2")
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr, backend := ownHost()+":7200", echoing(t).addr
		file := func(size string) string {
			return acceptorsTable(2, "auto") + listenerAt("web", addr, "app", fmt.Sprintf("buffer = %q", size)) + poolOf("app", []string{backend})
		}
		s := startChanging(t, mode, file("64KiB"))
		shows := func(size int, sessions int) {
			t.Helper()
			for _, end := range [][]string{{"src", addr}, {"dst", backend}} {
				out := finish(t, patience, ss, append([]string{"-tmH", "state", "established"}, end...)...)
				if n := strings.Count(out, fmt.Sprintf(",rb%d,", 2*size)); n != sessions { // the kernel doubles it
					t.Errorf("%v: %d sockets have %d, want %d, in\n%s", end, n, 2*size, sessions, out)
				}
			}
		}
		old := dial(t, addr)
		if !talks(old) {
			t.Fatal("no session")
		}
		shows(64<<10, 1)
		if said := reload(s, file("96KiB")); !strings.Contains(said, "rebind   listener.web.buffer: 65536 -> 98304") {
			t.Errorf("said %q", said)
		}
		s.awaitGeneration()
		eventually(t, patience, "the old sockets have left", func() bool { return len(listening(t, addr)) == 2 })
		for range 2 {
			if !talks(dial(t, addr)) {
				t.Fatal("no session")
			}
		}
		shows(96<<10, 2)
		shows(64<<10, 1)
		if !talks(old) {
			t.Error("the old session does not go on")
		}
	})
}

// An address that this machine does not have is refused by a reload, and with freebind is
// not; the session of the former goes on.
func TestReloadChangesFreebind(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr, pool := ownHost()+":7300", poolOf("app", []string{echoing(t).addr})
		elsewhere := "203.0.113.77:" + fmt.Sprint(freePort(t))
		file := func(bind string, freebind bool) string {
			return acceptorsTable(2, "auto") + listenerAt("web", bind, "app", fmt.Sprintf("freebind = %t", freebind)) + pool
		}
		s := startChanging(t, mode, file(addr, false))
		held, before := dial(t, addr), listening(t, addr)
		if !talks(held) {
			t.Fatal("no session")
		}
		s.write(file(elsewhere, false))
		if status, _, faults := s.ask(); status == exitOK || !strings.Contains(faults, "cannot assign requested address") {
			t.Errorf("without freebind: status %d, %s", status, faults)
		}
		if after := listening(t, addr); !slices.Equal(sorted(before), sorted(after)) {
			t.Errorf("a refused reload changes the sockets: %v, %v", before, after)
		}
		if said := reload(s, file(addr, true)); !strings.Contains(said, "rebind   listener.web.freebind: false -> true") {
			t.Errorf("said %q", said)
		}
		if err := pingPong(dial(t, addr)); err != nil {
			t.Error(err)
		}
		reload(s, file(elsewhere, true))
		if got := s.status().Listeners[0].Address; got != elsewhere || len(listening(t, elsewhere)) != 2 {
			t.Errorf("it listens on %s by %d sockets", got, len(listening(t, elsewhere)))
		}
		if !talks(held) {
			t.Error("the session does not go on")
		}
	})
}
