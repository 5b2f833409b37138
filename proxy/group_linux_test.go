package proxy

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/proxy/internal/sys"
)

// memoryRow is a Row that steering would keep in shared memory.
type memoryRow struct {
	held, flight atomic.Int64
	open, empty  atomic.Bool
}

func (r *memoryRow) Load() int64                   { return r.held.Load() + r.flight.Load() }
func (r *memoryRow) Pick()                         { r.flight.Add(1) }
func (r *memoryRow) Accepted()                     { r.Lost(); r.held.Add(1) }
func (r *memoryRow) Hold(n int64)                  { r.held.Add(n) }
func (r *memoryRow) Beat(_ int64, empty bool) bool { r.empty.Store(empty); return r.flight.Load() > 0 }
func (r *memoryRow) Open(open bool)                { r.open.Store(open) }

func (r *memoryRow) Lost() {
	if r.flight.Add(-1) < 0 { // none was picked
		r.flight.Add(1)
	}
}

// withRows gives n acceptors rows, ports of their own, and mail.
func withRows(t *testing.T, n int, rows *[]*memoryRow, change func(*Group)) func(*setup) {
	var mail [][2]int
	for range n {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
		mail = append(mail, pair)
		*rows = append(*rows, new(memoryRow))
	}
	return func(o *setup) {
		o.acceptors, o.apart = n, true
		o.mail = func(i int) (receive, send int) { return mail[i][0], mail[i][1] }
		o.group = func(g *Group) {
			for _, r := range *rows {
				g.Rows = append(g.Rows, r)
			}
			change(g)
		}
	}
}

// All come to one acceptor, and it passes on until all have nearly the same.
func TestHandOff(t *testing.T) {
	var rows []*memoryRow
	s := start(t, withRows(t, 3, &rows, func(g *Group) { g.HandOff = true }))
	var ends []*net.TCPConn
	for range 30 {
		c, b := s.pair()
		ends = append(ends, c, b)
		send(t, c, "served")
		expect(t, b, "served")
	}
	for i, a := range s.acceptors {
		if n := a.cells.Sessions.Load(); n < 8 || n > 12 || rows[i].Load() != n {
			t.Errorf("acceptor %d holds %d of 30 sessions, its row says %d", i, n, rows[i].Load())
		}
	}
	first := s.acceptors[0].web()
	if first.Accepted.Load() != 30 || first.HandedOff.Load() != 30-uint64(s.acceptors[0].cells.Sessions.Load()) {
		t.Errorf("accepted %d, handed off %d", first.Accepted.Load(), first.HandedOff.Load())
	}
	for _, c := range ends {
		c.Close()
	}
	s.settled()
	for i, r := range rows {
		if r.held.Load() != 0 || r.flight.Load() != 0 {
			t.Errorf("acceptor %d ends with %d held and %d in flight", i, r.held.Load(), r.flight.Load())
		}
	}
}

// An acceptor that hangs, or takes nothing new, is given nothing.
func TestNoHandOffToTheHung(t *testing.T) {
	var rows []*memoryRow
	s := start(t, withRows(t, 3, &rows, func(g *Group) { g.HandOff = true }))
	defer s.hang(1)()
	s.phases[2] = PhaseClosed
	s.must(s.tryApply(s.renewed())) // the one that hangs runs it later
	waitFor(t, "the acceptor to close", func() bool { return s.acceptors[2].cells.Accepting.Load() == 0 })
	if rows[2].open.Load() {
		t.Error("the row of an acceptor that stopped is open")
	}
	for range 10 {
		s.pair()
	}
	if n := s.acceptors[0].cells.Sessions.Load(); n != 10 {
		t.Errorf("%d of 10 sessions stayed", n)
	}
}

// A connection counts once, picked or not: also if the program that picked it has gone
// meanwhile.
func TestPickedCountsOnce(t *testing.T) {
	var rows []*memoryRow
	s := start(t, withRows(t, 1, &rows, func(*Group) {}))
	rows[0].Pick()
	for n := range int64(2) {
		s.pair()
		if load := rows[0].Load(); load != n+1 {
			t.Errorf("%d connections count as %d", n+1, load)
		}
	}
}

// What waits behind a hung acceptor is accepted by the one that rescues.
func TestRescue(t *testing.T) {
	var rows []*memoryRow
	s := start(t, withRows(t, 2, &rows, func(*Group) {}))
	release := s.hang(1)
	c := s.dialTo(1)
	s.acceptors[0].Rescue(1, &s.views[1].Own)
	b := s.answered()
	send(t, c, "rescued")
	expect(t, b, "rescued")
	cells := s.acceptors[0].web()
	if cells.Rescued.Load() != 1 || rows[0].Load() != 1 || rows[1].Load() != 0 {
		t.Errorf("rescued %d; rows %d and %d", cells.Rescued.Load(), rows[0].Load(), rows[1].Load())
	}

	s.acceptors[0].Rescue(1, nil)
	s.acceptors[0].Holds(netip.AddrPort{}) // it has heard the other by the time that it answers
	s.dialTo(1)
	release()
	s.answered()
	if n := s.acceptors[1].web().Accepted.Load(); n != 1 {
		t.Errorf("the one that hung accepted %d afterwards, the rescuer %d", n, cells.Rescued.Load())
	}
}

// What was passed on while its receiver stopped is served all the same.
func TestStopServesItsMail(t *testing.T) {
	var rows []*memoryRow
	s := start(t, withRows(t, 2, &rows, func(g *Group) { g.HandOff = true }))
	s.phases[1] = PhaseClosed
	s.apply(s.renewed())
	c, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	s.must(err)
	defer unix.Close(c[1])
	post := sys.Linux()
	rows[1].Pick()
	if errno := post.SendFD(s.views[0].Mail[1], uint64(webID), c[0]); errno != 0 {
		t.Fatal(errno)
	}
	unix.Close(c[0])
	s.answered()
	if n := s.acceptors[1].web().Taken.Load(); n != 1 {
		t.Errorf("taken %d", n)
	}
}

// hang stops an acceptor's loop until the test calls what it returns.
func (s *service) hang(acceptor int) (release func()) {
	hung, free := make(chan struct{}), make(chan struct{})
	s.acceptors[acceptor].post(func() { close(hung); <-free })
	<-hung
	s.acceptors[acceptor].cells.Hung.Store(1) // as the control plane finds out
	return func() { s.acceptors[acceptor].cells.Hung.Store(0); close(free) }
}
