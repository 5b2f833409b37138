package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apart are machines around this one, which is a router without forwarding: clients behind
// "side", backends behind "near", both with addresses of either family.
//
//	clients 10.78.0.2, fd78::2 ── 10.78.0.1, fd78::1 (side)   this   (near) 10.77.0.1, fd77::1 ── 10.77.0.2, fd77::2 backends
//
// What comes from the backends' side is taken for this machine's own, whatever its
// destination. So answers to clients' addresses come back to sluice.
type apart struct{ clients, backends namespace }

func newApart(t *testing.T) apart {
	t.Helper()
	ip := need(t, "ip", "iproute2")
	a := apart{newNamespace(t), newNamespace(t)}
	for _, command := range []string{
		"link set far netns " + a.backends.pid,
		"link add side type veth peer name eth0 netns " + a.clients.pid,
		"addr add 10.78.0.1/16 dev side", "-6 addr add fd78::1/64 dev side nodad", "link set side up", "-6 addr add fd77::1/64 dev near nodad",
		"rule add iif near lookup 100", "route add local default dev lo table 100",
		"-6 rule add iif near lookup 100", "-6 route add local default dev lo table 100",
	} {
		finish(t, patience, ip, strings.Fields(command)...)
	}
	for n, script := range map[namespace]string{a.clients: "dev=eth0 net=78", a.backends: "dev=far net=77"} {
		n.run(script + `
			ip link set lo up
			ip addr add 10.$net.0.2/16 dev $dev
			ip -6 addr add fd$net::2/64 dev $dev nodad
			ip link set $dev up
			ip route add default via 10.$net.0.1
			ip -6 route add default via fd$net::1`)
	}
	return a
}

// in runs do in a namespace. What it opens stays there.
func (n namespace) in(t *testing.T, do func() error) {
	t.Helper()
	pid, err := strconv.Atoi(n.pid)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere(t, pid, do)
}

// listen opens a listener there.
func (n namespace) listen(t *testing.T, addr string) (ln net.Listener) {
	t.Helper()
	n.in(t, func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	return ln
}

// dial connects a client from there.
func (n namespace) dial(t *testing.T, addr string) (c *net.TCPConn) {
	t.Helper()
	n.in(t, func() error {
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		c = conn.(*net.TCPConn)
		t.Cleanup(func() { c.Close() })
		return c.SetDeadline(time.Now().Add(patience))
	})
	return c
}

// sayWho is a backend that names the client that came to it, and then sends back what it gets.
func sayWho(c *net.TCPConn) {
	defer c.Close()
	if _, err := fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).IP); err == nil {
		_, _ = io.Copy(c, c)
	}
}

// asked is what a sayWho says.
func asked(t *testing.T, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReaderSize(c, 64).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// bounce has a sayWho send so many bytes back.
func bounce(t *testing.T, c *net.TCPConn, size int64) {
	t.Helper()
	go func() {
		_, _ = io.CopyN(c, zeros{}, size)
		_ = c.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
}

// Backends see their clients' own addresses, of either family and as PROXY headers tell
// them; streams go both ways, spliced.
func TestTransparentPool(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		far := newApart(t)
		four := servePeer(t, far.backends.listen(t, "10.77.0.2:0"), sayWho)
		six := servePeer(t, far.backends.listen(t, "[fd77::2]:0"), sayWho)
		modes(t, func(t *testing.T, mode string) {
			path := filepath.Join(socketDir(t), "web")
			const told = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"10.78.0.0/16\"]"
			file := func(transparent bool) string {
				return acceptorsTable(2, "auto") + listenerAt("both", "[::]:0", "both", `relay = "splice"`) + listenerAt("told", "10.78.0.1:0", "both", told) +
					listenerAt("four", "[::]:0", "four") + boundTo("unix", []string{"unix:" + path}, "four", `proxy_protocol = "required"`) +
					poolOf("both", []string{four.addr, six.addr}, fmt.Sprintf("transparent = %t\nretries = 0", transparent)) +
					poolOf("four", []string{four.addr}, fmt.Sprintf("transparent = %t", transparent), "[pool.four.health]\ncheck = \"tcp\"\nexpect = \"10.77.0.1\"\nstart = \"down\"")
			}
			s := startChanging(t, mode, file(true))
			eventually(t, patience, "checks, which come from this machine's own address, succeed", func() bool { return s.metric("sluice_backend_up", `pool="four"`) == 1 })
			to := func(listener, host string) string {
				return host + s.addrs[listener][strings.LastIndex(s.addrs[listener], ":"):]
			}
			for range 4 { // as many as it takes to meet each acceptor and target
				for host, client := range map[string]string{"10.78.0.1": "10.78.0.2", "[fd78::1]": "fd78::2"} {
					if got := asked(t, far.clients.dial(t, to("both", host))); got != client {
						t.Errorf("the backend sees %s, want %s", got, client)
					}
				}
				for header, client := range map[string]string{
					"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n": "203.0.113.7", "PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n": "2001:db8::7", "PROXY UNKNOWN\r\n": "10.78.0.2",
				} {
					c := far.clients.dial(t, to("told", "10.78.0.1"))
					send(t, c, header)
					if got := asked(t, c); got != client {
						t.Errorf("behind %q the backend sees %s, want %s", header, got, client)
					}
				}
			}
			for header, client := range map[string]string{"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n": "203.0.113.7", "PROXY UNKNOWN\r\n": "10.77.0.1"} {
				c := dialUnix(t, path)
				send(t, c, header)
				if got := asked(t, c); got != client {
					t.Errorf("by a unix socket, behind %q, the backend sees %s, want %s", header, got, client)
				}
			}

			const size = 8 << 20
			before := s.moved(`path="splice"`)
			c := far.clients.dial(t, to("both", "[fd78::1]"))
			asked(t, c)
			bounce(t, c, size)
			eventually(t, patience, "both ways are spliced", func() bool { return s.moved(`path="splice"`)-before >= 2*size })

			// A client without a backend of its family hears so, and no backend is the worse for it.
			far.clients.in(t, func() error {
				if c, err := net.DialTimeout("tcp", to("four", "[fd78::1]"), patience); err == nil { // or the RST was faster
					c.Close()
				}
				return nil
			})
			c = far.clients.dial(t, to("told", "10.78.0.1"))
			send(t, c, "PROXY TCP4 10.77.255.255 10.0.0.1 5000 443\r\n")
			expectReset(t, c)
			s.tells("no connection to this backend can be made with this client's address", func(n int) bool { return n == 1 })
			for reason, want := range map[string]float64{"no_backend": 1, "connect_failed": 1} {
				if n := s.metric("sluice_listener_closed_connections_total", fmt.Sprintf("reason=%q", reason)); n != want {
					t.Errorf("%v ended as %s, want %v", n, reason, want)
				}
			}
			if n := s.metric("sluice_backend_connect_errors_total"); n != 1 {
				t.Errorf("%v connects failed, want the one with no address", n)
			}

			// It is live.
			if said := s.reload(file(false)); !strings.Contains(said, "live     pool.both.transparent: true -> false") {
				t.Errorf("said %q", said)
			}
			s.awaitGeneration()
			if got := asked(t, far.clients.dial(t, to("both", "10.78.0.1"))); got != "10.77.0.1" && got != "fd77::1" {
				t.Errorf("afterwards the backend sees %s", got)
			}
		})
	})
}

// A pool may have both: connections are made in its namespace with the client's address,
// which this one does not know there, and answers come back there.
func TestTransparentPoolInANamespace(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		far, gate := newApart(t), newNamespace(t)
		gate.run(`
			ip link set lo up
			ip link add back type veth peer name gate netns ` + far.backends.pid + `
			ip addr add 10.79.0.1/16 dev back
			ip link set back up
			ip rule add iif back lookup 100
			ip route add local default dev lo table 100`)
		far.backends.run(`
			ip addr add 10.79.0.2/16 dev gate
			ip link set gate up
			ip route add 10.78.0.0/16 via 10.79.0.1`)
		backend := servePeer(t, far.backends.listen(t, "10.79.0.2:0"), sayWho)
		modes(t, func(t *testing.T, mode string) {
			s := startChanging(t, mode, acceptorsTable(2, "auto")+listenerAt("web", "10.78.0.1:0", "app", `relay = "splice"`)+
				poolOf("app", []string{backend.addr}, "transparent = true", fmt.Sprintf("netns = \"/proc/%s/ns/net\"", gate.pid)))
			for range 8 { // as many as it takes to meet each acceptor
				if got := asked(t, far.clients.dial(t, s.addrs["web"])); got != "10.78.0.2" {
					t.Errorf("the backend sees %s, want 10.78.0.2", got)
				}
			}
			c := far.clients.dial(t, s.addrs["web"])
			asked(t, c)
			bounce(t, c, 8<<20)
		})
	})
}

// Without the right to it there is no start, and the error says why.
func TestTransparentTakesARight(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Skip("only root has it to lose")
	}
	setpriv := need(t, "setpriv", "util-linux")
	for _, command := range [][]string{{"run", "--admin", "127.0.0.1:0"}, {"check"}} {
		s := launch(t, func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-all", "--", cmd.Path}, cmd.Args[1:]...)
			cmd.Path = setpriv
		}, append(command, "-c", configFile(t, listenerAt("web", "127.0.0.1:0", "app")+poolOf("app", []string{"127.0.0.1:9"}, "transparent = true")))...)
		want := exitFault
		if command[0] == "check" {
			want = exitOK
		}
		if status := s.wait(startWithin); status != want || !strings.Contains(s.logged(), "pool.app.transparent: set IP_TRANSPARENT: operation not permitted (it needs CAP_NET_ADMIN or CAP_NET_RAW)") {
			t.Errorf("%s: exit status %d:\n%s", command[0], status, s.logged())
		}
	}
}
