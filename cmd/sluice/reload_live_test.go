package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

type reloading = func(c *changing, text string) string

func TestReloadAddsAndRemovesAListener(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		a, b, pool := unused(t), unused(t), poolOf("app", []string{echoing(t).addr})
		head := acceptorsTable(2, "hash") + "[limits]\ndrain_timeout = \"1m\"\n"
		alone := head + listenerAt("a", a, "app") + pool
		both := head + listenerAt("a", a, "app") + listenerAt("b", b, "app") + pool
		s := startChanging(t, mode, alone)
		sockets := listening(t, a)
		kept := dial(t, a)
		if !refuses(b) {
			t.Fatal("b listens before it is configured")
		}

		if said := reload(s, both); !strings.Contains(said, "live     listener.b: added") {
			t.Errorf("said %q", said)
		}
		running := dial(t, b)
		if !talks(running) || !talks(kept) {
			t.Fatal("a session does not go on")
		}

		if said := reload(s, alone); !strings.Contains(said, "live     listener.b: removed") {
			t.Errorf("said %q", said)
		}
		eventually(t, patience, "b is refused", func() bool { return refuses(b) })
		if got := s.metric("sluice_listener_leaving", `listener="b"`); got != 1 {
			t.Errorf("b is leaving: %v, want 1", got)
		}
		if !talks(running) {
			t.Error("a session of the removed listener does not go on")
		}
		running.Close()
		s.awaitNoSeries(`listener="b"`)
		if !talks(kept) {
			t.Error("a session of the listener that stays does not go on")
		}
		if now := listening(t, a); !slices.Equal(sorted(now), sorted(sockets)) {
			t.Errorf("the listener that stays had the sockets %v, now %v", sockets, now)
		}
	})
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// awaitNoSeries waits until no line of /metrics has a label any more.
func (s *instance) awaitNoSeries(label string) {
	s.t.Helper()
	eventually(s.t, patience, "there are no series with "+label, func() bool {
		_, page := s.get("/metrics")
		return !strings.Contains(page, label)
	})
}

// What waits in the queues of a listener that is removed is served, and sessions
// still there at the end of drain_timeout are cut.
func TestReloadRemovesAListenerUnderLoad(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		a, b, pool := unused(t), unused(t), poolOf("app", []string{echoing(t).addr})
		head := acceptorsTable(2, "hash") + "[limits]\ndrain_timeout = \"1s\"\n"
		s := startChanging(t, mode, head+listenerAt("a", a, "app")+listenerAt("b", b, "app")+pool)
		held, kept := dial(t, b), dial(t, a)
		if !talks(held) {
			t.Fatal("no session")
		}
		through := startTraffic(b, 200)
		began := time.Now()
		reload(s, head+listenerAt("a", a, "app")+pool)
		expectReset(t, held)
		if took := time.Since(began); took < time.Second {
			t.Errorf("cut after %v, before drain_timeout", took)
		}
		s.awaitNoSeries(`listener="b"`)
		checkVisits(t, through.stop(), syscall.ECONNREFUSED)
		if !talks(kept) {
			t.Error("a session of the other listener was cut, too")
		}
	})
}

// A listener that changes its address is one listener: the old address answers until the
// new one does, the sessions go on, and no total falls.
func TestReloadMovesAListener(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		a, b, pool := unused(t), unused(t), poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, acceptorsTable(2, "hash")+listenerAt("web", a, "app")+pool)
		old := dial(t, a)
		if !talks(old) {
			t.Fatal("no session")
		}
		accepted := func() float64 { return s.metric("sluice_listener_closed_connections_total", `listener="web"`) }
		for range 5 {
			if err := pingPong(dial(t, a)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, patience, "the short ones are counted", func() bool { return accepted() == 5 })

		if said := reload(s, acceptorsTable(2, "hash")+listenerAt("web", b, "app")+pool); !strings.Contains(said, "rebind   listener.web.bind: "+a+" -> "+b) {
			t.Errorf("said %q", said)
		}
		if err := pingPong(dial(t, b)); err != nil {
			t.Error(err)
		}
		if !talks(old) {
			t.Error("the old session does not go on")
		}
		eventually(t, patience, "the old address is refused, and who knocked is gone", func() bool {
			return refuses(a) && s.sessions() == 1
		})
		n := accepted() // some that knocked to see whether they are refused were served
		if n < 6 {
			t.Errorf("the total is %v, want at least 6", n)
		}
		if got := s.metric("sluice_acceptor_active_connections", `listener="web"`); got != 1 {
			t.Errorf("%v sessions, want the old one", got)
		}
		old.Close()
		eventually(t, patience, "the old session is counted", func() bool { return accepted() == n+1 })
		gone := func() bool { return strings.Contains(s.logged(), "listener has left") }
		eventually(t, patience, "the old one has left", gone)
		for range 100 { // and been forgotten, at some moment
			if now := accepted(); now != n+1 {
				t.Fatalf("the total is %v, want %v", now, n+1)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// The same port on another address of the machine, and on all of them, and back.
func TestReloadMovesAListenerOnItsPort(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		port := freePort(t)
		pool := poolOf("app", []string{echoing(t).addr})
		file := func(host string) string {
			return acceptorsTable(2, "hash") + listenerAt("web", fmt.Sprintf("%s:%d", host, port), "app") + pool
		}
		s := startChanging(t, mode, file("127.0.0.1"))
		held := dial(t, local(port))
		stop := startTraffic(local(port), 200)
		for _, host := range []string{"0.0.0.0", "127.0.0.1", "", "127.0.0.1"} {
			reload(s, file(host))
			eventually(t, patience, "the former has left", func() bool { return s.metric("sluice_listener_leaving") == 0 })
			if !talks(held) {
				t.Fatalf("after %q the session does not go on", host)
			}
		}
		checkVisits(t, stop.stop())
	})
}

// checkVisits wants every client served, but for errors that are named.
func checkVisits(t *testing.T, visits []visit, but ...error) {
	t.Helper()
	for _, v := range visits {
		if v.err != nil && !slices.ContainsFunc(but, func(e error) bool { return errors.Is(v.err, e) }) {
			t.Errorf("a client failed after %v: %v", v.took, v.err)
		}
	}
	t.Logf("%d clients", len(visits))
}

func TestReloadChangesPools(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr, a, b := unused(t), namer(t, 'a'), namer(t, 'b')
		s := startChanging(t, mode, acceptorsTable(2, "hash")+listenerAt("web", addr, "one")+poolOf("one", []string{a.addr}))
		if !servedBy(t, addr, 'a') {
			t.Error("not the first pool's")
		}
		reload(s, acceptorsTable(2, "hash")+listenerAt("web", addr, "two")+poolOf("two", []string{b.addr}))
		s.awaitGeneration()
		if !servedBy(t, addr, 'b') {
			t.Error("not the second pool's")
		}
		s.awaitNoSeries(`pool="one"`)
		// A client that waits for a backend is tried on what its pool has then.
		reload(s, acceptorsTable(2, "hash")+listenerAt("web", addr, "two")+poolOf("two", []string{b.addr}, `pick = "least_sessions"`, `connect_timeout = "1s"`, "retries = 1"))
		s.awaitGeneration()
		if !servedBy(t, addr, 'b') {
			t.Error("not the second pool's, after it changed")
		}
	})
}

// awaitGeneration waits until every acceptor runs the Plan in force.
func (s *instance) awaitGeneration() {
	s.t.Helper()
	eventually(s.t, patience, "all acceptors run the Plan in force", func() bool {
		st := s.status()
		for _, a := range st.Acceptors {
			if uint64(a.Generation) != st.Config.Generation {
				return false
			}
		}
		return true
	})
}

func TestReloadChangesBackends(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr, a, b := unused(t), namer(t, 'a'), namer(t, 'b')
		file := func(backends ...string) string {
			return acceptorsTable(1, "hash") + listenerAt("web", addr, "app") + poolOf("app", backends)
		}
		s := startChanging(t, mode, file(a.addr))
		running := dial(t, addr)
		askName(t, running)
		shares := func(n int) map[byte]int {
			s.awaitGeneration()
			got := map[byte]int{}
			for range n {
				c := dial(t, addr)
				got[askName(t, c)]++
				c.Close()
			}
			return got
		}
		reload(s, file(a.addr, b.addr))
		if got := shares(20); !maps.Equal(got, map[byte]int{'a': 10, 'b': 10}) {
			t.Errorf("with two backends: %v", got)
		}
		reload(s, file(a.addr, b.addr+" weight=3"))
		if got := shares(20); !maps.Equal(got, map[byte]int{'a': 5, 'b': 15}) {
			t.Errorf("with weights 1 and 3: %v", got)
		}
		reload(s, file(a.addr+" backup", b.addr))
		if got := shares(20); !maps.Equal(got, map[byte]int{'b': 20}) {
			t.Errorf("with one as backup: %v", got)
		}
		reload(s, file(b.addr))
		if got := shares(20); !maps.Equal(got, map[byte]int{'b': 20}) {
			t.Errorf("with one removed: %v", got)
		}
		s.awaitNoSeries(fmt.Sprintf("backend=%q", a.addr))
		send(t, running, "x")
		if running.CloseWrite() != nil {
			t.Error("the session on the removed backend does not go on")
		}
		expectEnd(t, running)
	})
}

func TestReloadChangesLimits(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr := unused(t)
		file := func(whole, each int) string {
			return fmt.Sprintf("[limits]\nmax_sessions = %d\n", whole) + acceptorsTable(2, "hash") +
				listenerAt("web", addr, "app", fmt.Sprintf("max_sessions = %d", each)) + poolOf("app", []string{echoing(t).addr})
		}
		s := startChanging(t, mode, file(0, 0))
		for range 3 {
			if !talks(dial(t, addr)) {
				t.Fatal("no session")
			}
		}
		reload(s, file(3, 0))
		s.awaitGeneration()
		expectRefusal(t, addr)
		reload(s, file(0, 4))
		s.awaitGeneration()
		if !talks(dial(t, addr)) {
			t.Error("no session below the listener's limit")
		}
		expectRefusal(t, addr)
		reload(s, file(0, 0))
		s.awaitGeneration()
		if !talks(dial(t, addr)) {
			t.Error("no session without a limit")
		}
	})
}

// A timeout that changes holds for the sessions that run, too.
func TestReloadChangesTimeouts(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr := unused(t)
		pool := poolOf("app", []string{echoing(t).addr})
		file := func(timeout string) string {
			return acceptorsTable(2, "hash") + listenerAt("web", addr, "app", fmt.Sprintf("idle_timeout = %q", timeout)) + pool
		}
		t.Run("shortened", func(t *testing.T) {
			s := startChanging(t, mode, file("10m"))
			c := dial(t, addr)
			if !talks(c) {
				t.Fatal("no session")
			}
			began := time.Now()
			reload(s, file("1s"))
			expectEnd(t, c)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("ended after %v, want about 1 s", took)
			}
			s.expectClosed(map[string]int{"idle_timeout": 1})
		})
		t.Run("prolonged", func(t *testing.T) {
			s := startChanging(t, mode, file("1500ms"))
			c := dial(t, addr)
			if !talks(c) {
				t.Fatal("no session")
			}
			reload(s, file("10m"))
			other := dial(t, addr)
			time.Sleep(2500 * time.Millisecond)
			if !talks(c) || !talks(other) {
				t.Error("a session ended by the timeout of before")
			}
		})
	})
}

func TestReloadChangesTheLogLevel(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		file := func(level string) string {
			return fmt.Sprintf("[log]\nlevel = %q\n", level) + listenerAt("web", "127.0.0.1:0", "app") + poolOf("app", []string{echoing(t).addr})
		}
		s := startChanging(t, mode, file("info"))
		infos := func() int { return strings.Count(s.logged(), `"level":"INFO"`) }
		before := infos()
		reload(s, file("debug"))
		eventually(t, patience, "the reload is logged", func() bool { return infos() > before })
		for range 2 { // by the verb: with level error the log does not show a reload
			s.write(file("error"))
			if status, _, faults := s.ask(); status != exitOK {
				t.Fatal(faults)
			}
			before = infos()
		}
		s.write(file("error") + "[limits]\nmax_sessions = 5\n")
		if status, _, faults := s.ask(); status != exitOK {
			t.Fatal(faults)
		}
		if after := infos(); after != before {
			t.Errorf("with level error %d lines of level info were written", after-before)
		}
		reload(s, file("info"))
		eventually(t, patience, "the next is logged", func() bool { return infos() > before })
	})
}

// Steering changes under held sessions and a stream of short ones.
func TestReloadChangesSteering(t *testing.T) {
	needBPF(t)
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr := unused(t)
		rest := listenerAt("main", addr, "app") + poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, acceptorsTable(acceptors, "least")+rest)
		held := dial(t, addr)
		through := startTraffic(addr, 200)
		for _, steering := range []string{"hash", "least", "round_robin", "cpu", "least", "cpu", "round_robin", "hash", "auto"} {
			reload(s, acceptorsTable(acceptors, steering)+rest)
			s.awaitGeneration()
			want := steering
			if steering == "auto" {
				want = "least"
			}
			if got := s.status().Listeners[0].Steering; got.Effective != want || got.Requested != steering {
				t.Errorf("%s is asked for: %+v", steering, got)
			}
		}
		checkVisits(t, through.stop())
		if !talks(held) {
			t.Error("the held session does not go on")
		}
		held.Close()
		s.awaitIdle()
		var c crowd // and after all of this least is exact
		c.join(t, addr, 16, 4, false)
		if b := s.held(16); b.Spread != 0 {
			t.Errorf("16 sessions are held %v apart", b.Spread)
		}
		c.leave(t)
	})
}

// What needs a restart is reported, and stays as it is; the rest of the file is in force.
func TestReloadKeepsWhatNeedsARestart(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr := unused(t)
		rest := poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, acceptorsTable(2, "hash")+listenerAt("web", addr, "app")+rest)
		other := map[string]string{"goroutine": "process", "process": "goroutine"}[mode]
		text := "instance = \"other\"\n" + acceptorsTable(2, "hash", "pin_cpus = true") + listenerAt("web", addr, "app", "max_sessions = 1") + rest
		said := reload(s, text)
		for _, want := range []string{"restart  instance: ", "restart  acceptors.pin_cpus: false -> true (", "live     listener.web.max_sessions: 0 -> 1"} {
			if !strings.Contains(said, want) {
				t.Errorf("said %q, want %q", said, want)
			}
		}
		if strings.Contains(said, other) {
			t.Errorf("the mode, given by a flag, changed: %q", said)
		}
		s.awaitGeneration()
		held := dial(t, addr)
		if !talks(held) {
			t.Fatal("no session")
		}
		expectRefusal(t, addr)
		st := s.status()
		if st.Name != "" || st.Mode != mode || st.Acceptors[0].CPU != nil {
			t.Errorf("something that needs a restart has changed: %q, %s, %v", st.Name, st.Mode, st.Acceptors[0].CPU)
		}
		if said := reload(s, text); strings.Contains(said, "live") || !strings.Contains(said, "restart  instance") {
			t.Errorf("at the second time: %q", said)
		}
	})
}

// Where many acceptors share a CPU a reload that changes nothing says so and is no
// reason for new sockets.
func TestReloadOfTheSameFile(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		addr := unused(t)
		text := acceptorsTable(3, "hash") + listenerAt("web", addr, "app") + poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, text)
		held, sockets := dial(t, addr), listening(t, addr)
		for range 5 {
			reload(s, text)
		}
		if !talks(held) || !slices.Equal(sorted(listening(t, addr)), sorted(sockets)) {
			t.Error("something has changed")
		}
	})
}
