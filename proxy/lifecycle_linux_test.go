package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// A new Plan holds for new sessions; one that runs keeps its backend.
func TestApply(t *testing.T) {
	s := start(t)
	c1, b1 := s.pair()
	other := s.listen("127.0.0.1:0")
	defer other.Close()
	next := &Plan{Listeners: s.plan.Listeners, Pools: []pool.Pool{s.plan.Pools[0]}}
	next.Pools[0].Backends = []pool.Backend{{Name: "other", Addrs: []netip.AddrPort{addrOf(other)}, Weight: 1}}
	s.must(s.acceptors[0].Apply(next))

	c2 := s.dial()
	b2, err := other.Accept()
	s.must(err)
	defer b2.Close()
	send(t, b2, "other")
	expect(t, c2, "other")
	send(t, c1, "first")
	expect(t, b1, "first")
}

func TestApplyRefuses(t *testing.T) {
	s := start(t)
	wrong := &Plan{Listeners: []Listener{{Name: "web", Pool: "nowhere"}}, Pools: s.plan.Pools}
	if err := s.acceptors[0].Apply(wrong); err == nil {
		t.Error("a listener without a pool was accepted")
	}
	c, b := s.pair() // and nothing has changed
	send(t, c, "still")
	expect(t, b, "still")
}

func TestHolds(t *testing.T) {
	s := start(t)
	_, b := s.pair()
	from := b.RemoteAddr().(*net.TCPAddr).AddrPort()
	if !s.acceptors[0].Holds(from) {
		t.Errorf("%v is not known as a session's", from)
	}
	if s.acceptors[0].Holds(netip.AddrPortFrom(from.Addr(), 1)) {
		t.Error("a stranger is known as a session's")
	}
}

// What waits in the queue when accepting stops is still served.
func TestStopEmptiesTheQueue(t *testing.T) {
	const n = 50
	held := make(chan struct{})
	s := start(t, func(o *setup) { o.sys = func(y *sys) { y.connect = heldBack(y.connect, held) } })
	for range n {
		s.dial()
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.acceptors[0].StopAccepting() }()
	waitFor(t, "the stop to be posted", s.acceptors[0].hasPosted.Load)
	close(held)
	<-stopped
	for range n {
		s.answered()
	}
	if got := s.total(sessions); got != n {
		t.Errorf("%d sessions, want %d", got, n)
	}
}

// Calls after the end return, and touch no descriptor: the number of the one that woke
// the loop may be a client's by then.
func TestCallsAfterTheEnd(t *testing.T) {
	s := start(t)
	a := s.acceptors[0]
	number := a.wakeFD
	a.Close()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	s.must(err)
	defer unix.Close(fd)
	if fd != number {
		s.must(unix.Dup3(fd, number, unix.O_CLOEXEC))
		defer unix.Close(number)
	}
	if err := a.Apply(s.plan); !errors.Is(err, ErrEnded) {
		t.Errorf("Apply: %v", err)
	}
	a.StopAccepting()
	a.Cut(metrics.ReasonDrainDeadline)
	a.Holds(netip.AddrPort{})
	a.Close()
	if n, err := unix.Read(fd, make([]byte, 8)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the descriptor that took the number was written to: %d bytes, %v", n, err)
	}
}

// An acceptor whose Plan is wrong holds nothing.
func TestNewRefuses(t *testing.T) {
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	before := openDescriptors(t)
	plan := &Plan{Listeners: []Listener{{Name: "web", Pool: "nowhere"}}}
	if _, err := New(Options{Acceptors: 1, Board: board, Plan: plan, Groups: make([]Group, 1)}); err == nil {
		t.Error("a listener without a pool was accepted")
	}
	if n := openDescriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}
