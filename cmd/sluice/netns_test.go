package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A listener in another network namespace is reached from there and not from here, and may
// have an address that another listener has here. Acceptors come and go, options that need no
// other sockets change, and it moves to another namespace, as listeners do.
func TestListenerInANamespace(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		blue, green := newNamespace(t), newNamespace(t)
		for _, n := range []namespace{blue, green} {
			n.run("ip link set lo up; echo 50 >/proc/sys/net/core/somaxconn")
		}
		ours, theirs := namer(t, 'o'), namer(t, 't')
		port := 7400
		modes(t, func(t *testing.T, mode string) {
			port++
			addr := local(port)
			file := func(acceptors int, where namespace, lines ...string) string {
				return acceptorsTable(acceptors, "auto") + listenerAt("ours", addr, "ours") +
					listenerAt("theirs", addr, "theirs", append(lines, fmt.Sprintf("netns = \"/proc/%s/ns/net\"", where.pid))...) +
					poolOf("ours", []string{ours.addr}) + poolOf("theirs", []string{theirs.addr})
			}
			s := startChanging(t, mode, file(2, blue))
			meets := func(when string) {
				t.Helper()
				if name := askName(t, dial(t, addr)); name != 'o' {
					t.Errorf("%s: here %q serves", when, name)
				}
				for range 6 { // whichever acceptor
					if name := askName(t, blue.dial(t, addr)); name != 't' {
						t.Errorf("%s: there %q serves", when, name)
					}
				}
			}
			meets("at the start")
			if l := s.status().Listeners; len(l) != 2 || l[1].Steering.Effective != l[0].Steering.Effective {
				t.Errorf("steering is %+v", l[1].Steering)
			}
			if n := strings.Count(s.logged(), `"backlog":50`); n != 1 {
				t.Errorf("%d listeners have the backlog that the other namespace allows", n)
			}
			s.reload(file(3, blue, `keepalive = "9s"`, "backlog = 7"))
			s.awaitGeneration()
			meets("with three acceptors")
			s.reload(file(1, blue))
			s.awaitGeneration()
			meets("with one")
			if said := s.reload(file(2, green)); !strings.Contains(said, "rebind   listener.theirs.netns: ") {
				t.Errorf("said %q", said)
			}
			s.awaitGeneration()
			if name := askName(t, green.dial(t, addr)); name != 't' {
				t.Errorf("in the other namespace %q serves", name)
			}
			eventually(t, patience, "nobody listens in the first", func() (refused bool) {
				blue.in(t, func() error {
					c, err := net.DialTimeout("tcp", addr, patience)
					if refused = err != nil; !refused {
						c.Close()
					}
					return nil
				})
				return refused
			})

			s.write(file(2, namespace{t, "0"}))
			if status, _, faults := s.ask(); status == exitOK || !strings.Contains(faults, "listener.theirs.netns: network namespace /proc/0/ns/net: no such file or directory") {
				t.Errorf("reload: status %d, %s", status, faults)
			}
			if name := askName(t, green.dial(t, addr)); name != 't' {
				t.Errorf("after the refused reload %q serves", name)
			}
		})
	})
}

// A listener that leaves a port that others share in a namespace sends new clients to them: it looks for
// the sockets that are its own there.
func TestSharedListenerInANamespace(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		blue := newNamespace(t)
		blue.run("ip link set lo up")
		port := 7450
		modes(t, func(t *testing.T, mode string) {
			port++
			addr := local(port)
			start := func(name byte) *instance {
				return sluice(t, mode, "-c", configFile(t, acceptorsTable(2, "auto")+
					listenerAt("main", addr, "app", "share = true", fmt.Sprintf("netns = \"/proc/%s/ns/net\"", blue.pid))+poolOf("app", []string{namer(t, name).addr})))
			}
			first := start('a')
			start('b')
			if status := first.stop(); status != exitOK || !strings.Contains(first.logged(), "new connections go to others that share the port") {
				t.Errorf("exit status %d", status)
			}
			for range 8 {
				if name := askName(t, blue.dial(t, addr)); name != 'b' {
					t.Errorf("%q serves", name)
				}
			}
		})
	})
}

// Without the right to enter it there is no start, and the error says why.
func TestNamespaceTakesARight(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root has it to lose")
	}
	setpriv := need(t, "setpriv", "util-linux")
	for command, want := range map[string]int{"run": exitFault, "check": exitOK} {
		s := launch(t, func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--", cmd.Path}, cmd.Args[1:]...)
			cmd.Path = setpriv
		}, command, "--admin", "127.0.0.1:0", "-c", configFile(t, listenerAt("web", "127.0.0.1:0", "app", `netns = "/proc/self/ns/net"`)+poolOf("app", []string{"127.0.0.1:9"})))
		if status := s.wait(startWithin); status != want || !strings.Contains(s.logged(), "listener.web.netns: network namespace /proc/self/ns/net: setns: operation not permitted (it needs CAP_SYS_ADMIN)") {
			t.Errorf("%s: exit status %d:\n%s", command, status, s.logged())
		}
	}
}
