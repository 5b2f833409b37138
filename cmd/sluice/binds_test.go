package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// ownHost is an address of loopback that no other test uses.
func ownHost() string {
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(250))
}

// listenerOn is a listener of several addresses.
func listenerOn(name string, binds []string, pool string, lines ...string) string {
	return fmt.Sprintf("[listener.%s]\nbind = %s\npool = %q\n%s\n", name, quoted(binds), pool, strings.Join(lines, "\n"))
}

// The addresses of a listener are one listener: one limit, one set of figures.
func TestSeveralBinds(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		host := ownHost()
		one := host + ":7000"
		s := startChanging(t, mode, acceptorsTable(2, "auto")+
			listenerOn("main", []string{one, host + ":7001-7003"}, "app", "max_sessions = 5", "backlog = 7")+poolOf("app", []string{echoing(t).addr}))
		addrs := []string{one, host + ":7001", host + ":7002", host + ":7003"}
		var l metrics.ListenerStats
		for _, found := range s.status().Listeners {
			if l = found; !slices.Equal(found.Addresses, addrs) || found.Address != one || found.Bind != one+" "+host+":7001-7003" {
				t.Errorf("status.json says %q, %q, %q", found.Addresses, found.Address, found.Bind)
			}
		}
		if l.Name != "main" {
			t.Errorf("a listener %q", l.Name)
		}
		for _, addr := range append(addrs, addrs[2]) {
			if !talks(dial(t, addr)) {
				t.Fatalf("no session at %s", addr)
			}
		}
		for _, addr := range addrs {
			expectRefusal(t, addr)
		}
		const of = `listener="main"`
		if n := s.metric("sluice_acceptor_active_connections", of); n != 5 {
			t.Errorf("%v are held, want 5", n)
		}
		if n := s.metric("sluice_acceptor_accepted_connections_total", of); n != 9 {
			t.Errorf("%v were accepted, want 9", n)
		}
		if n := s.metric("sluice_listener_rejected_connections_total", of); n != 4 {
			t.Errorf("%v were rejected, want 4", n)
		}
		if n := s.metric("sluice_acceptor_queue_limit", of); n != 2*4*7 {
			t.Errorf("the queues take %v, want 2 acceptors x 4 addresses x 7", n)
		}
		var stdout, stderr bytes.Buffer
		e := env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}
		if status(e, []string{"-socket", s.socket}) != exitOK || !strings.Contains(stdout.String(), one+" and 3 more") {
			t.Errorf("sluice status: %s%s", &stdout, &stderr)
		}
	})
}

// A reload of the list opens and closes what changes in it, and nothing else.
func TestReloadChangesBinds(t *testing.T) {
	changes(t, func(t *testing.T, mode string, reload reloading) {
		host, pool := ownHost(), poolOf("app", []string{echoing(t).addr})
		addr := func(port int) string { return fmt.Sprintf("%s:%d", host, port) }
		file := func(binds ...string) string {
			return acceptorsTable(2, "auto") + listenerOn("web", binds, "app") + pool
		}
		s := startChanging(t, mode, file(addr(7000), addr(7001)))
		leaves, stays := dial(t, addr(7000)), dial(t, addr(7001))
		if !talks(leaves) || !talks(stays) {
			t.Fatal("no sessions")
		}
		before := sorted(listening(t, addr(7001)))
		if said := reload(s, file(host+":7001-7002")); !strings.Contains(said, "rebind   listener.web.bind: ") {
			t.Errorf("said %q", said)
		}
		if after := sorted(listening(t, addr(7001))); !slices.Equal(before, after) || len(after) != 2 {
			t.Errorf("the sockets of the address that stays were %v and are %v", before, after)
		}
		for _, port := range []int{7001, 7002} {
			if err := pingPong(dial(t, addr(port))); err != nil {
				t.Errorf("port %d: %v", port, err)
			}
		}
		eventually(t, patience, "the address that was taken out is refused", func() bool { return refuses(addr(7000)) })
		if !talks(leaves) || !talks(stays) {
			t.Error("a session does not go on")
		}
		eventually(t, patience, "what is held is the two sessions", func() bool {
			return s.metric("sluice_acceptor_active_connections", `listener="web"`) == 2
		})
		if got := s.status().Listeners; len(got) != 1 || !slices.Equal(got[0].Addresses, []string{addr(7001), addr(7002)}) {
			t.Errorf("status.json says %+v", got)
		}
	})
}

// [::] beside 0.0.0.0 in one list takes IPv6 alone.
func TestBindsOfBothFamilies(t *testing.T) {
	needIPv6(t)
	modesTogether(t, func(t *testing.T, mode string) {
		port := freePort(t)
		s := startChanging(t, mode, acceptorsTable(2, "auto")+
			listenerOn("main", []string{fmt.Sprintf("0.0.0.0:%d", port), fmt.Sprintf("[::]:%d", port)}, "app")+poolOf("app", []string{echoing(t).addr}))
		for _, host := range []string{"127.0.0.1", "::1"} {
			if !talks(dial(t, net.JoinHostPort(host, fmt.Sprint(port)))) {
				t.Errorf("no session at %s", host)
			}
		}
		if n := s.metric("sluice_acceptor_active_connections", `listener="main"`); n != 2 {
			t.Errorf("%v sessions", n)
		}
	})
}

// The limit of a source holds over all addresses of a listener.
func TestSourceLimitOverBinds(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		host := ownHost()
		startChanging(t, mode, acceptorsTable(2, "auto")+
			listenerOn("main", []string{host + ":7000-7002"}, "app", "source_sessions = 2")+poolOf("app", []string{echoing(t).addr}))
		for _, port := range []int{7000, 7001} {
			if !talks(dial(t, fmt.Sprintf("%s:%d", host, port))) {
				t.Fatal("no session")
			}
		}
		for _, port := range []int{7000, 7001, 7002} {
			expectRefusal(t, fmt.Sprintf("%s:%d", host, port))
		}
	})
}

// A session or two at each of many addresses lean to no acceptor.
func TestManyAddressesLeanToNobody(t *testing.T) {
	needBPF(t)
	modesTogether(t, func(t *testing.T, mode string) {
		host := ownHost()
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(4, "least")+
			listenerOn("main", []string{host + ":7000-7015"}, "app")+poolOf("app", []string{echoing(t).addr})))
		for port := range 16 {
			if !talks(dial(t, fmt.Sprint(host, ":", 7000+port))) {
				t.Fatalf("no session at port %d", 7000+port)
			}
		}
		if held := s.held(16); held.Spread != 0 {
			t.Errorf("shares %v, want the same for each", held.Shares)
		}
	})
}
