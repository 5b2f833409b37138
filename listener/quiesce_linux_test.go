package listener

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The ways in, by the address listened on and the one dialed.
var quiesceWays = []struct{ name, bind, host string }{
	{"IPv4", "127.0.0.1:0", "127.0.0.1"},
	{"IPv6", "[::1]:0", "::1"},
	{"both, by IPv4", "[::]:0", "127.0.0.1"},
	{"both, by IPv6", "[::]:0", "::1"},
}

// After Quiesce what waits in the queue is served and a new SYN gets no answer.
func TestQuiesce(t *testing.T) {
	for _, way := range quiesceWays {
		t.Run(way.name, func(t *testing.T) {
			needIPv6(t)
			g := live(t, Options{Address: way.bind})
			addr := at(g, way.host)
			const waiting = 5
			for range waiting {
				mustDial(t, addr)
			}
			if err := Quiesce(g.FD(0)); err != nil {
				t.Fatal(err)
			}
			if c, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond); err == nil {
				c.Close()
				t.Error("a quiesced socket answered a SYN")
			}
			for range waiting {
				accept(t, g)
			}
			if q, err := QueueOf(g.FD(0)); err != nil || q.Length != 0 {
				t.Errorf("queue %+v, %v after all were accepted", q, err)
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if c, err := dial(addr); err == nil {
				c.Close()
				t.Error("connected to a closed group")
			}
		})
	}
}

// A handshake that stands between SYN and ACK when the socket is quiesced
// completes, and the connection works. The handshake's middle is held still by a
// client that drops the SYN-ACK until it is sent again.
func TestQuiesceCompletesHandshakes(t *testing.T) {
	for _, way := range quiesceWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel() // each waits a second for the kernel to repeat its SYN-ACK
			needIPv6(t)
			g := live(t, Options{Address: way.bind})
			client := halfOpen(t, at(g, way.host))
			if err := Quiesce(g.FD(0)); err != nil {
				t.Fatal(err)
			}
			if err := Restore(client); err != nil {
				t.Fatal(err)
			}
			_, conn := accept(t, g)
			if err := Restore(conn); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(client, []byte("sluice")); err != nil {
				t.Fatal(err)
			}
			unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(deadline / time.Second)})
			buf := make([]byte, 16)
			if n, err := unix.Read(conn, buf); err != nil || string(buf[:n]) != "sluice" {
				t.Errorf("read %q, %v", buf[:max(n, 0)], err)
			}
		})
	}
}

// halfOpen returns a non-blocking socket that has sent its SYN and drops every
// packet that comes back.
func halfOpen(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	domain := unix.AF_INET
	if addr.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := setLeastTTL(fd, 255); err != nil {
		t.Fatal(err)
	}
	sa, err := sockaddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, sa); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	waitFor(t, "the SYN-ACK", func() bool {
		dropped, err := drops(fd)
		return err != nil || dropped > 0
	})
	return fd
}
