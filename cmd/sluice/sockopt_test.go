package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A refused option is named, each of several: check warns, and neither a start nor a
// reload goes on.
func TestRefusedSocketOptions(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		file := func(listener, pool string) string {
			return acceptorsTable(2, "auto") + listenerAt("web", "127.0.0.1:0", "app", listener) + poolOf("app", []string{backend}, pool)
		}
		bad := file(`congestion = "nosuch"`, "interface = \"nosuch0\"\ntos = 16")
		wants := []string{"listener.web.congestion: set TCP_CONGESTION: ", "pool.app.interface: set SO_BINDTODEVICE: "}

		check := launch(t, nil, "check", "-c", configFile(t, bad))
		if status := check.wait(startWithin); status != exitOK {
			t.Errorf("check: exit status %d", status)
		}
		start := launch(t, nil, "run", "--mode", mode, "--admin", "127.0.0.1:0", "-c", configFile(t, bad))
		if status := start.wait(startWithin); status != exitFault {
			t.Errorf("run: exit status %d", status)
		}
		for _, want := range wants {
			if !strings.Contains(check.logged(), want) || !strings.Contains(start.logged(), want) {
				t.Errorf("check says\n%s\nand run\n%s\nwithout %q", check.logged(), start.logged(), want)
			}
		}
		if strings.Contains(start.logged(), "tos") {
			t.Errorf("what is not refused is named: %s", start.logged())
		}

		s := startChanging(t, mode, file("", ""))
		s.write(bad)
		if status, _, faults := s.ask(); status == exitOK || !strings.Contains(faults, wants[0]) || !strings.Contains(faults, wants[1]) {
			t.Errorf("reload: status %d, %s", status, faults)
		}
		if !talks(dial(t, s.addrs["web"])) {
			t.Error("no session after the refused reload")
		}
	})
}

// Without the right to mark packets there is no start, and the error says why.
func TestMarkTakesARight(t *testing.T) {
	if syscall.Geteuid() == 0 {
		setpriv := need(t, "setpriv", "util-linux")
		s := launch(t, func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-all", "--", cmd.Path}, cmd.Args[1:]...)
			cmd.Path = setpriv
		}, "run", "--admin", "127.0.0.1:0", "-c", configFile(t, listenerAt("web", "127.0.0.1:0", "app", "mark = 7")+poolOf("app", []string{"127.0.0.1:9"})))
		if status := s.wait(startWithin); status != exitFault || !strings.Contains(s.logged(), "listener.web.mark: set SO_MARK: operation not permitted (it needs CAP_NET_ADMIN)") {
			t.Errorf("exit status %d:\n%s", status, s.logged())
		}
	}
}

// otherCongestion is an algorithm besides reno that this user may have.
func otherCongestion(t *testing.T) string {
	t.Helper()
	if os.Geteuid() == 0 {
		return "cubic"
	}
	allowed, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control") // none without it
	for _, name := range strings.Fields(string(allowed)) {
		if name != "reno" {
			return name
		}
	}
	t.Skip("this user may have reno only")
	return ""
}

// What was asked for is so on both sides' sockets, and changes by reload.
func TestSocketOptions(t *testing.T) {
	ss, other := need(t, "ss", "iproute2"), otherCongestion(t)
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		addr := ownHost() + ":7100"
		file := func(congestion string, tos int) string {
			return acceptorsTable(2, "auto") + listenerAt("web", addr, "app", fmt.Sprintf("congestion = %q\ntos = %d\ninterface = \"lo\"\nfastopen = 5", congestion, tos)) +
				poolOf("app", []string{backend}, fmt.Sprintf("congestion = %q\ntos = %d\ninterface = \"lo\"", congestion, tos))
		}
		s := startChanging(t, mode, file("reno", 16))
		shows := func(direction, addr, congestion, tos string) {
			t.Helper()
			out := finish(t, patience, ss, "-tinH", "-o", "state", "established", direction, addr)
			if !strings.Contains(out, congestion+" ") {
				t.Errorf("%s %s: no %s in\n%s", direction, addr, congestion, out)
			}
			// ss shows TOS with extended information where the kernel tells it
			if out = finish(t, patience, ss, "-tneH", "--tos", "state", "established", direction, addr); !strings.Contains(out, "tos:"+tos) {
				t.Errorf("%s %s: no tos %s in\n%s", direction, addr, tos, out)
			}
		}
		c := dial(t, addr)
		if !talks(c) {
			t.Fatal("no session")
		}
		shows("src", addr, "reno", "0x10")
		shows("dst", backend, "reno", "0x10")
		c.Close()
		s.awaitIdle()

		if said := s.reload(file(other, 8)); !strings.Contains(said, "rebind   listener.web.congestion: reno -> "+other) || !strings.Contains(said, "live     pool.app.tos: 16 -> 8") {
			t.Errorf("said %q", said)
		}
		s.awaitGeneration()
		eventually(t, patience, "the old sockets have left", func() bool { return strings.Contains(s.logged(), "listener has left") })
		if !talks(dial(t, addr)) {
			t.Fatal("no session")
		}
		shows("src", addr, other, "0x8")
		shows("dst", backend, other, "0x8")
	})
}

// A connection is accepted with its first byte.
func TestDeferAccept(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		s := startChanging(t, mode, acceptorsTable(1, "auto")+listenerAt("web", "127.0.0.1:0", "app", `defer_accept = "60s"`)+poolOf("app", []string{echoing(t).addr}))
		silent, speaks := dial(t, s.addrs["web"]), dial(t, s.addrs["web"])
		send(t, speaks, "x")
		expect(t, speaks, "x")
		if n := s.metric("sluice_acceptor_accepted_connections_total"); n != 1 {
			t.Errorf("%v are accepted, want the one that spoke", n)
		}
		send(t, silent, "y")
		expect(t, silent, "y")
	})
}
