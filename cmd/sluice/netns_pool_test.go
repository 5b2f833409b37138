package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/metrics"
)

// name serves at an address of a namespace, as namer does.
func (n namespace) name(t *testing.T, addr string, name byte) {
	t.Helper()
	sayName(t, n.listen(t, addr), name)
}

func sayName(t *testing.T, ln net.Listener, name byte) {
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Write([]byte{name}); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
}

// pathTo is a file that leads to a namespace, and can be taken away or lead elsewhere.
type pathTo string

func newPathTo(t *testing.T, n namespace) pathTo {
	p := pathTo(filepath.Join(t.TempDir(), "netns"))
	p.leadTo(n)
	return p
}

func (p pathTo) leadTo(n namespace) {
	_ = os.Remove(string(p))
	if err := os.Symlink("/proc/"+n.pid+"/ns/net", string(p)); err != nil {
		n.t.Fatal(err)
	}
}

// networks are this one and two others, in which the same address is answered by 'h', 'b' and 'g'.
type networks struct{ blue, green namespace }

func newNetworks(t *testing.T) networks {
	n := networks{newNamespace(t), newNamespace(t)}
	n.blue.run("ip link set lo up")
	n.green.run("ip link set lo up")
	return n
}

func (n networks) name(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	sayName(t, ln, 'h')
	n.blue.name(t, addr, 'b')
	n.green.name(t, addr, 'g')
}

// expectNames says who must serve, whichever acceptor takes it.
func expectNames(t *testing.T, when, addr string, want byte) {
	t.Helper()
	for range 8 {
		if got := askName(t, dial(t, addr)); got != want {
			t.Errorf("%s: %q serves, want %q", when, got, want)
		}
	}
}

// A pool in a namespace has its backends there. It goes on when the path of the namespace has gone, for workers that
// come anew as well; a reload without it is refused, one with another takes effect at once, for what connects from then on.
func TestPoolInANamespace(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		n := newNetworks(t)
		port := 7500
		modes(t, func(t *testing.T, mode string) {
			port += 3
			web, addr, more := local(port), local(port+1), local(port+2)
			n.name(t, addr)
			n.name(t, more)
			path := newPathTo(t, n.blue)
			listed := filepath.Join(t.TempDir(), "backends")
			write(t, listed, "[]\n")
			file := func(netns string, lines ...string) string {
				return acceptorsTable(2, "auto") + listenerAt("web", web, "app") +
					poolOf("app", []string{addr}, append(lines, fmt.Sprintf("backends_file = %q", listed), fmt.Sprintf("netns = %q", netns))...)
			}
			s := startChanging(t, mode, file(string(path)))
			expectNames(t, "at the start", web, 'b')
			old := dial(t, web)
			if name := askName(t, old); name != 'b' {
				t.Errorf("%q serves", name)
			}

			if err := os.Remove(string(path)); err != nil {
				t.Fatal(err)
			}
			write(t, listed, fmt.Sprintf("[%q]\n", more))
			s.tells("what files say is in force", func(n int) bool { return n == 1 })
			expectNames(t, "without its path", web, 'b')
			s.write(file(string(path), "retries = 3"))
			if status, _, faults := s.ask(); status == exitOK || !strings.Contains(faults, "pool.app.netns: network namespace "+string(path)+": no such file or directory") {
				t.Errorf("reload: status %d, %s", status, faults)
			}
			expectNames(t, "after the refused reload", web, 'b')
			if mode == "process" {
				for _, w := range s.awaitWorkers() {
					if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
				eventually(t, patience, "other workers serve", func() bool {
					for _, w := range s.status().Workers {
						if w.State != metrics.WorkerRunning || w.Restarts == 0 {
							return false
						}
					}
					return true
				})
				expectNames(t, "by other workers", web, 'b')
				old = dial(t, web)
				if name := askName(t, old); name != 'b' {
					t.Errorf("%q serves", name)
				}
			}

			path.leadTo(n.green)
			s.reload(file(string(path)))
			s.awaitGeneration()
			expectNames(t, "with another in its place", web, 'g')
			if said := s.reload(file("/proc/" + n.blue.pid + "/ns/net")); !strings.Contains(said, "live     pool.app.netns: ") {
				t.Errorf("said %q", said)
			}
			s.awaitGeneration()
			expectNames(t, "by another path", web, 'b')
			s.reload(file("/proc/self/ns/net"))
			s.awaitGeneration()
			expectNames(t, "in its own by a path", web, 'h')
			s.reload(file(""))
			s.awaitGeneration()
			expectNames(t, "in its own", web, 'h')
			ours, err := os.Readlink("/proc/thread-self/ns/net")
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range s.processes() {
				if is, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); is != ours {
					t.Errorf("process %d is in %s, want %s: %v", pid, is, ours, err)
				}
			}
			eventually(t, patience, "the other namespaces are let go", func() bool {
				for _, pid := range s.processes() {
					fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
					for _, fd := range fds {
						if to, _ := os.Readlink(fd); strings.HasPrefix(to, "net:") {
							return false
						}
					}
				}
				return true
			})
			if _, err := old.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			old.CloseWrite()
			if rest, err := io.ReadAll(old); err != nil || len(rest) > 0 {
				t.Errorf("the first session ended with %q, %v", rest, err)
			}
		})
	})
}

// Checks of each kind, further tries and probes are made there, too. What would answer them here, does not.
func TestPoolInANamespaceIsCheckedThere(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		n := newNetworks(t)
		port := 7600
		modes(t, func(t *testing.T, mode string) {
			port += 8
			addr, there, here := local(port), local(port+1), local(port+2)
			n.name(t, addr)
			n.blue.name(t, there, 'b')
			ln, err := net.Listen("tcp", here)
			if err != nil {
				t.Fatal(err)
			}
			sayName(t, ln, 'h')
			path := newPathTo(t, n.blue)
			key := fmt.Sprintf("netns = %q", path)
			inode, err := os.Readlink("/proc/" + n.blue.pid + "/ns/net")
			if err != nil {
				t.Fatal(err)
			}
			health := func(pool string, lines ...string) string {
				return fmt.Sprintf("[pool.%s.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\nstart = \"down\"\n%s\n", pool, strings.Join(lines, "\n"))
			}
			text := acceptorsTable(2, "auto") +
				listenerAt("connects", local(port+3), "connects") + poolOf("connects", []string{there, here}, key) + health("connects", `check = "tcp"`) +
				listenerAt("talks", local(port+4), "talks") + poolOf("talks", []string{addr}, key) + health("talks", `check = "tcp"`, `expect = "b"`) +
				listenerAt("runs", local(port+5), "runs") + poolOf("runs", []string{addr}, key) +
				health("runs", `check = "command"`, fmt.Sprintf(`command = ["/bin/sh", "-c", "test $(readlink /proc/self/ns/net) = %s"]`, inode)) +
				listenerAt("tries", local(port+6), "tries") + poolOf("tries", []string{here, addr}, key, `pick = "first"`)
			s := startChanging(t, mode, text)
			up := func(pool, backend string) bool {
				for _, p := range s.status().Pools {
					for _, b := range p.Backends {
						if p.Name == pool && b.Name == backend {
							return b.Targets[0].State == metrics.TargetUp
						}
					}
				}
				return false
			}
			for pool, backend := range map[string]string{"connects": there, "talks": addr, "runs": addr} {
				eventually(t, patience, pool+" finds its backend up", func() bool { return up(pool, backend) })
			}
			if up("connects", here) {
				t.Error("a backend that is only here is up there")
			}
			for i := range 3 {
				expectNames(t, "of the checked", local(port+3+i), 'b')
			}

			expectNames(t, "after a refusal", local(port+6), 'b')
			if err := os.Remove(string(path)); err != nil { // checks and probes do without
				t.Fatal(err)
			}
			n.blue.name(t, here, 'B')
			eventually(t, patience, "a probe finds the first", func() bool { return askName(t, dial(t, local(port+6))) == 'B' })
			eventually(t, patience, "a check finds it, too", func() bool { return up("connects", here) })
		})
	})
}

// The way of a pool's connections is that of its namespace: its interfaces, sources, Multipath TCP. An abstract
// name is of it, and a file is not. A listener that is there is a backend of this service itself, by whatever path.
func TestPoolInANamespaceGoesByIt(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		n := newNetworks(t)
		n.blue.run("ip link add blue0 type veth peer name green0 netns " + n.green.pid + "; ip link set blue0 up; ip addr add 10.91.0.1/24 dev blue0")
		n.green.run("ip link set green0 up; ip addr add 10.91.0.2/24 dev green0")
		port := 7700
		modes(t, func(t *testing.T, mode string) {
			port += 8
			addr, far := "10.91.0.1:"+fmt.Sprint(port), "10.91.0.2:"+fmt.Sprint(port)
			n.blue.name(t, addr, 'b')
			n.green.name(t, far, 'g')
			file := filepath.Join(t.TempDir(), "app.sock")
			abstract := fmt.Sprintf("@app%d", port)
			for at, name := range map[string]byte{file: 'f', abstract: 'h'} {
				ln, err := net.Listen("unix", at)
				if err != nil {
					t.Fatal(err)
				}
				sayName(t, ln, name)
			}
			n.blue.in(t, func() error {
				ln, err := net.Listen("unix", abstract)
				if err == nil {
					sayName(t, ln, 'a')
				}
				return err
			})
			key := `netns = "/proc/` + n.blue.pid + `/ns/net"`
			inside := local(port + 7)
			health := func(pool string) string {
				return fmt.Sprintf("[pool.%s.health]\ncheck = \"tcp\"\ninterval = \"100ms\"\nrise = 1\nstart = \"down\"\n", pool)
			}
			s := startChanging(t, mode, acceptorsTable(2, "auto")+
				listenerAt("a", local(port), "a")+poolOf("a", []string{addr}, key, `source = "10.91.0.1"`, "mark = 1", "mptcp = true", `source_ports = "20000-20100"`)+
				listenerAt("b", local(port+1), "b")+poolOf("b", []string{"unix:" + file}, key)+health("b")+
				listenerAt("c", local(port+2), "c")+poolOf("c", []string{"unix:" + abstract}, key)+health("c")+
				listenerAt("d", local(port+3), "d")+poolOf("d", []string{inside}, `netns = "`+string(newPathTo(t, n.blue))+`"`)+
				listenerAt("inside", inside, "a", key)+
				listenerAt("e", local(port+4), "e")+poolOf("e", []string{far}, key, `interface = "blue0"`))
			for pool, want := range map[int]byte{0: 'b', 1: 'f', 2: 'a', 4: 'g'} {
				if pool == 1 || pool == 2 {
					eventually(t, patience, "a check finds it up", func() bool { return s.status().Pools[pool].Backends[0].Targets[0].State == metrics.TargetUp })
				}
				expectNames(t, fmt.Sprint("pool ", pool), local(port+pool), want)
			}
			if name := askName(t, n.blue.dial(t, inside)); name != 'b' {
				t.Errorf("by the listener there %q serves", name)
			}
			expectRefusal(t, local(port+3))
			eventually(t, patience, "a listener that is there is known for this service's own", func() bool { return s.closedAs("loop") == 1 })
			if strings.Contains(s.logged(), "is no address of this machine") {
				t.Errorf("an address of the namespace is doubted:\n%s", s.logged())
			}
		})
	})
}

// Without the right to enter it there is no start, and it is said why.
func TestPoolNamespaceTakesARight(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root has it to lose")
	}
	setpriv := need(t, "setpriv", "util-linux")
	for netns, fault := range map[string]string{
		"/proc/self/ns/net": "network namespace /proc/self/ns/net: setns: operation not permitted (it needs CAP_SYS_ADMIN)",
		"nowhere-at-all":    "network namespace /run/netns/nowhere-at-all: no such file or directory",
	} {
		for command, want := range map[string]int{"run": exitFault, "check": exitOK} {
			s := launch(t, func(cmd *exec.Cmd) {
				cmd.Args = append([]string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--", cmd.Path}, cmd.Args[1:]...)
				cmd.Path = setpriv
			}, command, "--admin", "127.0.0.1:0", "-c", configFile(t, listenerAt("web", "127.0.0.1:0", "app")+poolOf("app", []string{"127.0.0.1:9"}, fmt.Sprintf("netns = %q", netns))))
			if status := s.wait(startWithin); status != want || !strings.Contains(s.logged(), "pool.app.netns: "+fault) {
				t.Errorf("%s: exit status %d:\n%s", command, status, s.logged())
			}
		}
	}
}
