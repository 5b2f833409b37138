package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// namespace is a network namespace of its own.
type namespace struct {
	t   *testing.T
	pid string // of a process that keeps it
}

func newNamespace(t *testing.T) namespace {
	t.Helper()
	keeper := exec.Command("sleep", "infinity")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	server(t, keeper)
	return namespace{t, strconv.Itoa(keeper.Process.Pid)}
}

// run runs shell commands there.
func (n namespace) run(script string) {
	n.t.Helper()
	finish(n.t, patience, need(n.t, "nsenter", "util-linux"), "-t", n.pid, "-n", "sh", "-ec", script)
}

// enter makes a command run there.
func (n namespace) enter(cmd *exec.Cmd) {
	cmd.Args = append([]string{"nsenter", "-t", n.pid, "-n", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = need(n.t, "nsenter", "util-linux")
}

// anycast is the service's address, which all instances have.
const anycast = "10.99.0.1:8080"

// spread is a router that spreads packets to the anycast address over three machines,
// by their addresses and ports, as a router with ECMP does:
//
//	clients 10.77.1.0/24, backends 10.77.0.1 ── router ─┬─ 10.78.1.2 ─┐
//	(this process)                            10.77.0.2 ├─ 10.78.2.2 ─┼─ each has 10.99.0.1
//	                                                    └─ 10.78.3.2 ─┘
type spread struct {
	router   namespace
	machines [3]namespace
}

// newSpread is called in the network of inOwnNetwork.
func newSpread(t *testing.T) *spread {
	t.Helper()
	ip := need(t, "ip", "iproute2")
	s := &spread{router: newNamespace(t)}
	here := func(command string) { finish(t, patience, ip, strings.Fields(command)...) }
	here("link set far netns " + s.router.pid)
	here("route add local 10.77.1.0/24 dev lo") // all of its addresses are this machine's
	s.router.run(`
		echo 1 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy # ports count, too
		ip link set lo up
		ip addr add 10.77.0.2/16 dev far
		ip link set far up`)
	here("route add default via 10.77.0.2")
	for i := range s.machines {
		m, n := newNamespace(t), i+1
		s.machines[i] = m
		here(fmt.Sprintf("link add up%d netns %s type veth peer name eth0 netns %s", n, s.router.pid, m.pid))
		m.run(fmt.Sprintf(`
			ip link set lo up
			ip addr add 10.99.0.1/32 dev lo
			ip addr add 10.78.%[1]d.2/24 dev eth0
			ip link set eth0 up
			ip route add default via 10.78.%[1]d.1`, n))
		s.router.run(fmt.Sprintf(`
			ip addr add 10.78.%[1]d.1/24 dev up%[1]d
			ip link set up%[1]d up
			ip nexthop add id %[1]d via 10.78.%[1]d.2 dev up%[1]d`, n))
	}
	s.route("1/2/3")
	s.router.run("ip route add 10.99.0.1/32 nhid 10")
	return s
}

// route spreads over these machines from now on, counted from 1. The group is resilient:
// the hash picks one of 128 buckets, and when a machine leaves only its buckets are
// given to others.
func (s *spread) route(machines string) {
	s.router.run("ip nexthop replace id 10 group " + machines + " type resilient buckets 128 idle_timer 300")
}

// start runs an instance on machine i.
func (s *spread) start(t *testing.T, mode string, i int, backends []string) *instance {
	t.Helper()
	args := []string{"run", "--mode", mode, "--acceptors", "2", "--log-format", "json", "--admin", fmt.Sprintf("10.78.%d.2:0", i+1),
		"--listen", anycast, "--pick", "source_hash", "--drain-timeout", "1s"}
	for j := range backends { // in another order on each
		args = append(args, "--backend", backends[(i+j)%len(backends)])
	}
	in := launch(t, s.machines[i].enter, args...)
	in.awaitReady()
	return in
}

// witness is a backend that says its name and by which instance a session came, and
// then echoes.
func witness(t *testing.T, name byte) *peer {
	return startPeer(t, "10.77.0.1:0", func(c *net.TCPConn) {
		defer c.Close()
		via := c.RemoteAddr().(*net.TCPAddr).IP.To4()[2] - 1 // 10.78.i+1.2
		if _, err := c.Write([]byte{name, via}); err == nil {
			_, _ = io.Copy(c, c)
		}
	})
}

// seen is what a witness has said to a client.
type seen struct {
	conn     *net.TCPConn
	backend  byte
	instance int
}

func visitAs(t *testing.T, client netip.Addr) seen {
	t.Helper()
	c := dialFrom(t, client, anycast)
	var said [2]byte
	if _, err := io.ReadFull(c, said[:]); err != nil {
		t.Fatalf("%v: %v", client, err)
	}
	return seen{c, said[0], int(said[1])}
}

// A router spreads connections over three instances that know nothing of each other. A
// client has the same backend through each of them. One leaves: its route first, then
// itself. Sessions of the two others go on, and new ones have the backends they had.
func TestInstancesAgreeBehindECMP(t *testing.T) {
	need(t, "nsenter", "util-linux") // here, where a skip is seen
	inOwnNetwork(t, func(t *testing.T) {
		s := newSpread(t)
		modes(t, func(t *testing.T, mode string) {
			s.route("1/2/3")
			var backends []string
			for _, name := range []byte("abcd") {
				backends = append(backends, witness(t, name).addr)
			}
			var instances [3]*instance
			for i := range instances {
				instances[i] = s.start(t, mode, i, backends)
			}

			clients := clientsFrom("10.77.1.0", 50)
			home := map[netip.Addr]byte{}
			var held []seen
			sawSeveral := 0
			for _, c := range clients {
				var by [3]int
				for range 8 {
					v := visitAs(t, c)
					if home[c] == 0 {
						home[c] = v.backend
					}
					if v.backend != home[c] {
						t.Fatalf("%v has %c and, by instance %d, %c", c, home[c], v.instance, v.backend)
					}
					by[v.instance]++
					held = append(held, v)
				}
				if by[0] < 8 && by[1] < 8 && by[2] < 8 {
					sawSeveral++
				}
			}
			t.Logf("%d of %d clients were served by several instances", sawSeveral, len(clients))
			if sawSeveral < len(clients)/2 { // each by chance with 0.999
				t.Error("the router does not spread the connections of a client")
			}

			s.route("2/3")
			// A router knows no sessions: what the machine holds that has lost its route comes
			// to another, which does not know it either.
			for _, v := range held {
				if v.instance == 0 {
					send(t, v.conn, "anybody?")
					expectReset(t, v.conn)
				}
			}
			instances[0].signal(syscall.SIGTERM)
			goOn := func() {
				t.Helper()
				for _, v := range held {
					if v.instance != 0 {
						send(t, v.conn, "still here")
						expect(t, v.conn, "still here")
					}
				}
			}
			goOn()
			for _, c := range clients {
				if v := visitAs(t, c); v.backend != home[c] || v.instance == 0 {
					t.Errorf("%v has %c by instance %d; want %c by one that stays", c, v.backend, v.instance, home[c])
				}
			}
			instances[0].wait(stopWithin)
			goOn()
			for _, in := range instances[1:] {
				in.expectClosed(map[string]int{})
			}
		})
	})
}
