package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// A new Plan holds for new sessions; one that runs keeps its backend.
func TestCommit(t *testing.T) {
	s := start(t)
	c1, b1 := s.pair()
	other := s.listen("127.0.0.1:0")
	defer other.Close()
	next := s.renewed()
	next.Pools[0].Targets = []pool.Target{targetAt(1, addrOf(other))}
	s.apply(next)

	c2 := s.dial()
	b2, err := other.Accept()
	s.must(err)
	defer b2.Close()
	send(t, b2, "other")
	expect(t, c2, "other")
	send(t, c1, "first")
	expect(t, b1, "first")
}

// A Plan that does not fit together is refused whole.
func TestBindRefuses(t *testing.T) {
	s := start(t)
	for name, spoil := range map[string]func(*Plan, *View){
		"a listener without a pool":          func(p *Plan, _ *View) { p.Listeners[0].Pool = metrics.NewID(7, 1) },
		"a listener's number out of range":   func(p *Plan, _ *View) { p.Listeners[0].ID = metrics.NewID(metrics.MaxListeners, 1) },
		"a target's generation is no excuse": func(p *Plan, _ *View) { p.Pools[0].ID = metrics.NewID(metrics.MaxPools, 1) },
		"no socket":                          func(_ *Plan, v *View) { v.Own.Listeners = nil },
		"no seat":                            func(p *Plan, _ *View) { p.Seats = []Seat{{Number: 1}} },
	} {
		p, v := s.renewed(), s.views[0]
		p.Seats = []Seat{{Number: 0}}
		spoil(p, &v)
		if _, err := s.acceptors[0].Bind(p, v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, b := s.pair() // and nothing has changed
	send(t, c, "still")
	expect(t, b, "still")
}

// A loop that hangs through many Plans runs the last one when it goes on, at once.
func TestTheLastPlanCounts(t *testing.T) {
	s := start(t)
	release := s.hang(0)
	for range 10 {
		s.must(s.tryApply(s.renewed()))
	}
	if n := s.acceptors[0].cells.Generation.Load(); n != 1 {
		t.Fatalf("a loop that hangs runs plan %d", n)
	}
	release()
	waitFor(t, "the last plan", func() bool { return s.acceptors[0].cells.Generation.Load() == 11 })
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
	s := start(t, func(o *setup) { o.sys = func(y *sys.Calls) { y.Connect = heldBack(y.Connect, held) } })
	for range n {
		s.dial()
	}
	next := s.renewed()
	next.Listeners[0].Phase = PhaseClosed
	s.must(s.tryApply(next))
	close(held)
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
	<-a.Ended()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	s.must(err)
	defer unix.Close(fd)
	if fd != number {
		s.must(unix.Dup3(fd, number, unix.O_CLOEXEC))
		defer unix.Close(number)
	}
	s.must(s.tryApply(s.renewed()))
	a.Rescue(1, nil)
	a.Holds(netip.AddrPort{})
	a.Close()
	if n, err := unix.Read(fd, make([]byte, 8)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the descriptor that took the number was written to: %d bytes, %v", n, err)
	}
}
