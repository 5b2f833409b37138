package listener

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		":8080":               "[::]:8080",
		"[::]:80":             "[::]:80",
		"0.0.0.0:80":          "0.0.0.0:80",
		"127.0.0.1:80":        "127.0.0.1:80",
		"[::1]:80":            "[::1]:80",
		"[::ffff:10.0.0.1]:1": "10.0.0.1:1",
		"[fe80::1%lo]:80":     "[fe80::1%lo]:80",
		"8080":                "missing port",
		"":                    "missing port",
		"::1:80":              "too many colons",
		"localhost:80":        `host "localhost"`,
		"10.0.0.1:http":       `port "http"`,
		":65536":              `port "65536"`,
		":-1":                 `port "-1"`,
	} {
		addr, err := parseAddress(in)
		if err == nil && addr.String() != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", in, addr, err, want)
		}
	}
}

func TestFamilies(t *testing.T) {
	tests := []struct {
		name      string
		options   Options
		reached   []string
		unreached []string
	}{
		{"IPv4", Options{Address: "127.0.0.1:0"}, []string{"127.0.0.1"}, []string{"::1"}},
		{"IPv4 wildcard", Options{Address: "0.0.0.0:0"}, []string{"127.0.0.1"}, []string{"::1"}},
		{"IPv6", Options{Address: "[::1]:0"}, []string{"::1"}, []string{"127.0.0.1"}},
		{"IPv6 wildcard", Options{Address: "[::]:0", IPv6Only: true}, []string{"::1"}, []string{"127.0.0.1"}},
		{"both", Options{Address: "[::]:0"}, []string{"::1", "127.0.0.1"}, nil},
		{"both, short", Options{Address: ":0"}, []string{"::1", "127.0.0.1"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			needIPv6(t)
			test.options.Seats = seats(3)
			g := live(t, test.options)
			for _, host := range test.reached {
				mustDial(t, at(g, host))
				accept(t, g)
			}
			for _, host := range test.unreached {
				if c, err := dial(at(g, host)); err == nil {
					c.Close()
					t.Errorf("reached by %s", host)
				}
			}
		})
	}
}

func TestWithoutIPv6(t *testing.T) {
	only4 := func(domain, typ, proto int) (int, error) {
		if domain == unix.AF_INET6 {
			return -1, unix.EAFNOSUPPORT
		}
		return unix.Socket(domain, typ, proto)
	}
	g := live(t, Options{Address: ":0", Seats: seats(2), socket: only4})
	if g.Addr().Addr() != netip.IPv4Unspecified() || len(g.Notes()) != 1 || !strings.Contains(g.Notes()[0], "no IPv6") {
		t.Errorf("fell back to %s, notes %q", g.Addr(), g.Notes())
	}
	mustDial(t, at(g, "127.0.0.1"))
	accept(t, g)
	for _, o := range []Options{{Address: "[::1]:0"}, {Address: ":0", IPv6Only: true}} {
		o.socket = only4
		if g, err := Open(o); err == nil {
			g.Close()
			t.Errorf("%s, IPv6 only %v: opened without IPv6", o.Address, o.IPv6Only)
		}
	}
}

func TestIPv6OnlyNeedsIPv6(t *testing.T) {
	if _, err := Open(Options{Address: "127.0.0.1:0", IPv6Only: true}); err == nil {
		t.Error("opened an IPv4 address as IPv6 only")
	}
}

// The kernel numbers a group's sockets in the order of their listen(2). A
// program that returns 2 therefore must choose socket 2 and no other.
func TestOrder(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0", Seats: seats(4)})
	for want := range g.Len() {
		filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(want)}}
		prog := unix.SockFprog{Len: 1, Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(g.FD(0), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			mustDial(t, g.Addr())
			if got, _ := accept(t, g); got != want {
				t.Fatalf("number %d is socket %d of the group", want, got)
			}
		}
	}
}

func TestAcceptedSocketsInherit(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0", Keeping: Keeping{KeepAlive: 59500 * time.Millisecond}})
	mustDial(t, g.Addr())
	_, conn := accept(t, g)
	for _, want := range []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60, "TCP_KEEPIDLE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 20, "TCP_KEEPINTVL"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3, "TCP_KEEPCNT"},
	} {
		if got := getInt(t, conn, want.level, want.name); got != want.value {
			t.Errorf("%s: %d, want %d", want.text, got, want.value)
		}
	}
	exact := live(t, Options{Address: "127.0.0.1:0", Buffer: 64 << 10, Keeping: Keeping{
		KeepAlive: 7 * time.Second, KeepInterval: 2 * time.Second, KeepCount: 5, UserTimeout: 1500 * time.Millisecond,
	}})
	mustDial(t, exact.Addr())
	_, conn = accept(t, exact)
	for _, want := range []option{
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 7, "TCP_KEEPIDLE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2, "TCP_KEEPINTVL"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5, "TCP_KEEPCNT"},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1500, "TCP_USER_TIMEOUT"},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 128 << 10, "SO_RCVBUF"}, // the kernel doubles it
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 128 << 10, "SO_SNDBUF"},
	} {
		if got := getInt(t, conn, want.level, want.name); got != want.value {
			t.Errorf("%s: %d, want %d", want.text, got, want.value)
		}
	}
	off := live(t, Options{Address: "127.0.0.1:0"})
	mustDial(t, off.Addr())
	_, conn = accept(t, off)
	if getInt(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
		t.Error("keepalive is on and nobody asked for it")
	}
}

func TestMPTCP(t *testing.T) {
	plain := live(t, Options{Address: "127.0.0.1:0"})
	if got := getInt(t, plain.FD(0), unix.SOL_SOCKET, unix.SO_PROTOCOL); got != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, want plain TCP", got)
	}
	g, err := Open(Options{Address: "127.0.0.1:0", Seats: seats(2), MPTCP: true})
	if err != nil {
		t.Skip("this kernel has no MPTCP: ", err)
	}
	defer g.Close()
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	if got := getInt(t, g.FD(0), unix.SOL_SOCKET, unix.SO_PROTOCOL); got != unix.IPPROTO_MPTCP {
		t.Errorf("protocol %d, want MPTCP", got)
	}
	mustDial(t, g.Addr())
	accept(t, g)
}

func TestBacklog(t *testing.T) {
	limit, err := Somaxconn()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ asked, want, notes int }{{0, limit, 0}, {7, 7, 0}, {limit + 1, limit, 1}} {
		g := live(t, Options{Address: "127.0.0.1:0", Backlog: test.asked})
		q, err := QueueOf(g.FD(0))
		if err != nil {
			t.Fatal(err)
		}
		if g.Backlog() != test.want || q.Limit != test.want || len(g.Notes()) != test.notes {
			t.Errorf("asked for %d: %d, in the kernel %d, notes %q", test.asked, g.Backlog(), q.Limit, g.Notes())
		}
	}
}

// A full queue keeps what is in it, counts what it drops, and empties by accept.
func TestQueue(t *testing.T) {
	const backlog = 2
	g := live(t, Options{Address: "127.0.0.1:0", Backlog: backlog})
	for range backlog + 1 { // the kernel lets one more in
		mustDial(t, g.Addr())
	}
	queue := func() Queue {
		q, err := QueueOf(g.FD(0))
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	waitFor(t, "a full queue", func() bool { return queue().Length == backlog+1 })
	if q := queue(); q.Limit != backlog || q.Drops != 0 {
		t.Errorf("full: %+v", q)
	}
	if c, err := net.DialTimeout("tcp", g.Addr().String(), 100*time.Millisecond); err == nil {
		c.Close()
		t.Error("connected to a full queue")
	}
	if q := queue(); q.Drops == 0 {
		t.Errorf("after one SYN more: %+v", q)
	}
	for left := backlog; left >= 0; left-- {
		accept(t, g)
		if q := queue(); q.Length != left {
			t.Errorf("length %d, want %d", q.Length, left)
		}
	}
}

func TestQueueOfWrongSocket(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0"})
	mustDial(t, g.Addr())
	_, conn := accept(t, g)
	if q, err := QueueOf(conn); err == nil {
		t.Errorf("queue of an accepted socket: %+v", q)
	}
	if q, err := QueueOf(-1); err == nil {
		t.Errorf("queue of nothing: %+v", q)
	}
}

func TestNothingLeaks(t *testing.T) {
	before := openDescriptors(t)
	for range 10 {
		g, err := Open(Options{Address: "127.0.0.1:0", Seats: seats(8)})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Listen(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Address: g.Addr().String(), Seats: seats(8)}); err == nil {
			t.Fatal("opened a port in use")
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Address: "192.0.2.1:0"}); err == nil { // not an address of this machine
			t.Fatal("opened another machine's address")
		}
	}
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// An address that is not here yet is no fault where that was asked for.
func TestFreebind(t *testing.T) {
	for _, address := range []string{"192.0.2.77:0", "[2001:db8::77]:0"} {
		if g, err := Open(Options{Address: address}); err == nil {
			g.Close()
			t.Errorf("%s: bound without freebind", address)
		}
		g, err := Open(Options{Address: address, Freebind: true})
		if err != nil {
			if errors.Is(err, unix.EAFNOSUPPORT) {
				t.Skip("this machine has no IPv6: ", err)
			}
			t.Errorf("%s: %v", address, err)
			continue
		}
		g.Close()
	}
}
