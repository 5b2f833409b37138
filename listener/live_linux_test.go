package listener

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// chooseNumber lets the group's socket of this number in the kernel have all.
func chooseNumber(t *testing.T, g *Group, number int) {
	t.Helper()
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(number)}}
	prog := unix.SockFprog{Len: 1, Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(g.FD(g.Seats()[0]), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog); err != nil {
		t.Fatal(err)
	}
}

// wantOrder checks Order against the kernel. -1 must be a socket of the other group.
func wantOrder(t *testing.T, g, other *Group, want ...int) {
	t.Helper()
	if order := g.Order(); !slices.Equal(order, want) {
		t.Fatalf("order %v, want %v", order, want)
	}
	for number, seat := range want {
		chooseNumber(t, g, number)
		mustDial(t, g.Addr())
		from := g
		if seat < 0 {
			from, seat = other, other.Order()[number]
		}
		if got, _ := accept(t, from); got != seat {
			t.Fatalf("number %d of %v is seat %d", number, want, got)
		}
	}
}

func TestOrderOfALiveGroup(t *testing.T) {
	g, err := Open(Options{Address: "127.0.0.1:0", Seats: seats(3)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(g.Add(9), g.Remove(1)) // neither listens
	if order := g.Order(); len(order) != 0 {
		t.Errorf("order %v before anything listens", order)
	}
	must(g.Listen())
	wantOrder(t, g, nil, 0, 2, 9)
	must(g.Add(1), g.Add(5), g.Add(7), g.Remove(7)) // they listen when they are told to
	wantOrder(t, g, nil, 0, 2, 9)
	must(g.Listen())
	wantOrder(t, g, nil, 0, 2, 9, 1, 5)
	must(g.Remove(2)) // the last fills the hole
	wantOrder(t, g, nil, 0, 5, 9, 1)
	must(g.Remove(0), g.Add(2), g.Listen(), g.Remove(9))
	wantOrder(t, g, nil, 1, 5, 2)
	must(g.Remove(2))
	wantOrder(t, g, nil, 1, 5)
	if seats := g.Seats(); !slices.Equal(seats, []int{1, 5}) || g.Len() != 2 || g.FD(0) != -1 || g.FD(99) != -1 {
		t.Errorf("seats %v, seat 0 has %d", seats, g.FD(0))
	}
}

// A seat that is taken, one that is empty, the last one, and a group of other makers.
func TestAddAndRemoveRefuse(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0"})
	for _, test := range []struct {
		err  error
		want string
	}{
		{g.Add(0), "has a socket"},
		{g.Add(-1), "can have none"},
		{g.Remove(3), "no socket"},
		{g.Remove(0), "the last socket"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%v, want %q", test.err, test.want)
		}
	}
	heir, err := Adopt([]int{dup(t, g.FD(0))})
	if err != nil {
		t.Fatal(err)
	}
	defer heir.Close()
	if err := heir.Add(1); err == nil {
		t.Error("an adopted group grew")
	}
}

// Another holder of the socket, such as a worker, must not go on listening on it.
func TestRemoveEndsListeningForAll(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0", Seats: seats(2)})
	held := dup(t, g.FD(0))
	defer unix.Close(held)
	if err := g.Remove(0); err != nil {
		t.Fatal(err)
	}
	if getInt(t, held, unix.SOL_SOCKET, unix.SO_ACCEPTCONN) != 0 {
		t.Error("it listens still")
	}
	for range 20 {
		mustDial(t, g.Addr())
		accept(t, g)
	}
}

// An added socket is like the first ones.
func TestAddedSocketIsTheSame(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0", Backlog: 9, Keeping: Keeping{KeepAlive: 30 * time.Second}})
	if err := errors.Join(g.Add(1), g.Listen()); err != nil {
		t.Fatal(err)
	}
	for _, o := range append(options(g.options, g.addr, true), option{unix.SOL_SOCKET, unix.SO_ACCEPTCONN, 1, "SO_ACCEPTCONN"}) {
		if first, added := getInt(t, g.FD(0), o.level, o.name), getInt(t, g.FD(1), o.level, o.name); first != added || added != o.value {
			t.Errorf("%s: %d, and %d of the added one; want %d", o.text, first, added, o.value)
		}
	}
	if q, err := QueueOf(g.FD(1)); err != nil || q.Limit != 9 {
		t.Errorf("queue %+v, %v", q, err)
	}
}

// A new bind address takes over from a wider one on the same port.
func TestBesideAnotherAddress(t *testing.T) {
	wide := live(t, Options{Address: "0.0.0.0:0", Seats: seats(2)})
	o := Options{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), wide.Addr().Port()).String(), Seats: seats(2)}
	if _, err := Open(o); !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("alone: %v, want EADDRINUSE", err)
	}
	o.Beside = []*Group{wide}
	narrow := live(t, o)
	if order := narrow.Order(); !slices.Equal(order, []int{0, 1}) {
		t.Errorf("order %v: they are two groups", order)
	}
	for range 20 {
		mustDial(t, narrow.Addr())
		accept(t, narrow)
	}
	if err := errors.Join(wide.Stop(wide.Seats()...), wide.Close()); err != nil {
		t.Fatal(err)
	}
	mustDial(t, narrow.Addr())
	accept(t, narrow)
}

// On the very same address they are one group, and each knows its numbers in it.
func TestBesideTheSameAddress(t *testing.T) {
	old := live(t, Options{Address: "127.0.0.1:0", Seats: seats(3)})
	g := live(t, Options{Address: old.Addr().String(), Seats: seats(2), Beside: []*Group{old}})
	wantOrder(t, g, old, -1, -1, -1, 0, 1)
	if err := old.Remove(0); err != nil {
		t.Fatal(err)
	}
	wantOrder(t, g, old, 1, -1, -1, 0)
	if err := errors.Join(old.Stop(old.Seats()...), old.Close(), g.Add(2), g.Listen()); err != nil {
		t.Fatal(err)
	}
	wantOrder(t, g, nil, g.Order()...)
	if g.Len() != 3 || slices.Contains(g.Order(), -1) {
		t.Errorf("order %v after the other group ended", g.Order())
	}
}

// A group of one can be steered before a second socket comes.
func TestGroupOfOneTakesAProgram(t *testing.T) {
	for _, o := range []Options{{Address: "127.0.0.1:0"}, {Address: ":0"}, {Address: "127.0.0.1:0", Share: true}} {
		g := live(t, o)
		wantOrder(t, g, nil, 0)
	}
}

func TestSameSockets(t *testing.T) {
	base := Options{Address: ":8080", Backlog: 5}
	for _, test := range []struct {
		name string
		o    Options
		same bool
	}{
		{"spelt in full", Options{Address: "[::]:8080"}, true},
		{"what Adjust changes", Options{Address: ":8080", Backlog: 7, Keeping: Keeping{KeepAlive: time.Second}}, true},
		{"how it is opened", Options{Address: ":8080", Seats: seats(9), Share: true, Beside: []*Group{nil}}, true},
		{"port", Options{Address: ":8081"}, false},
		{"host", Options{Address: "127.0.0.1:8080"}, false},
		{"IPv6 only", Options{Address: ":8080", IPv6Only: true}, false},
		{"MPTCP", Options{Address: ":8080", MPTCP: true}, false},
		{"no address", Options{Address: "8080"}, false},
	} {
		if base.SameSockets(test.o) != test.same || test.o.SameSockets(base) != test.same {
			t.Errorf("%s: want %t", test.name, test.same)
		}
	}
	one := Options{Address: "[::1]:80"}
	if !one.SameSockets(Options{Address: "[::1]:80", IPv6Only: true}) {
		t.Error("an IPv6 address leaves IPv4 alone either way")
	}
}

// The backlog and the keepalive change on the sockets that there are; what waits in a
// queue stays.
func TestAdjust(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		o := Options{Address: "127.0.0.1:0", Seats: seats(2), Backlog: 5, Keeping: Keeping{KeepAlive: 30 * time.Second}, MPTCP: mptcp}
		if g, err := Open(o); err == nil {
			g.Close()
		} else if mptcp {
			t.Skip("this kernel has no MPTCP: ", err)
		}
		g := live(t, o)
		mustDial(t, g.Addr())
		o.Backlog, o.KeepAlive = 9, 0
		if err := g.Adjust(o); err != nil {
			t.Fatal(err)
		}
		for _, seat := range g.Seats() {
			if q, err := QueueOf(g.FD(seat)); !mptcp && (err != nil || q.Limit != 9) {
				t.Errorf("queue %+v, %v", q, err)
			}
		}
		_, conn := accept(t, g)
		mustDial(t, g.Addr())
		if _, late := accept(t, g); getInt(t, late, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
			t.Error("keepalive is still on")
		}
		o.KeepAlive = 45 * time.Second
		if err := errors.Join(g.Adjust(o), g.Add(2), g.Listen()); err != nil {
			t.Fatal(err)
		}
		for _, seat := range g.Seats() {
			if idle := getInt(t, g.FD(seat), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); idle != 45 || g.Backlog() != 9 {
				t.Errorf("seat %d: keepalive after %d s, backlog %d", seat, idle, g.Backlog())
			}
		}
		if getInt(t, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY) != 1 {
			t.Error("the one that waited lost its options")
		}
		o.Address = "127.0.0.2:0"
		if err := g.Adjust(o); err == nil {
			t.Error("adjusted to another address")
		}
	}
}
