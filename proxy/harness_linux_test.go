package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// The numbers that a test's listener and pool have.
var (
	webID = metrics.NewID(0, 1)
	appID = metrics.NewID(0, 1)
)

// targetAt is the i-th target of a test's pool.
func targetAt(i uint32, addr netip.AddrPort) pool.Target {
	return pool.Target{ID: metrics.NewID(i, 1), Backend: addr.String(), Addr: addr, Weight: 1}
}

// web are the acceptor's cells on the test's listener.
func (a *Acceptor) web() *metrics.ListenerCells { return a.Board.Listener(a.Seat, webID) }

// deadline ends whatever a test waits for.
const deadline = 10 * time.Second

// TestMain opens a first socket, so that the descriptors of Go's own poller are
// there before a test counts.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	os.Exit(m.Run())
}

// setup is what a test asks of a service; see start for the defaults.
type setup struct {
	acceptors int
	maxPipes  int
	cpus      []int // pins the loops, and so their threads
	plan      *Plan
	apart     bool         // every acceptor has a port of its own
	group     func(*Group) // adds to what all acceptors are given
	mail      func(i int) (receive, send int)
	sys       func(*sys.Calls) // changes the system calls of every acceptor
	want      journal.Want     // what goes into the journal: all, but for benchmarks nothing
}

func (o *setup) listener() *Listener { return &o.plan.Listeners[0] }
func (o *setup) pool() *pool.Pool    { return &o.plan.Pools[0] }

// service is running acceptors that share one port, in front of one backend:
//
//	test ──dial──► client ──► acceptors ──► backend ──accept──► test
type service struct {
	t         testing.TB
	board     *metrics.Board
	journal   *journal.Journal
	records   *journal.Reader
	partly    bool // the journal does not hold all of a test
	plan      *Plan
	phases    map[int]Phase // of acceptors; serving unless told otherwise
	acceptors []*Acceptor
	views     []View   // by acceptor
	addresses []string // by acceptor; all the same but for setup.apart
	backend   net.Listener
	conns     chan *net.TCPConn // what the backend accepts, in order
}

// start runs a service until the test ends. Then every session must have ended
// without being told to, and whatever the service held must be given back.
func start(t testing.TB, change ...func(*setup)) *service {
	t.Helper()
	goroutines, descriptors := goleak.IgnoreCurrent(), openDescriptors(t)
	s := &service{t: t, phases: map[int]Phase{}, conns: make(chan *net.TCPConn, 4096)}
	t.Cleanup(func() { // the last of all
		if err := goleak.Find(goroutines); err != nil {
			t.Error(err)
		}
		if n := openDescriptors(t); n != descriptors {
			t.Errorf("%d descriptors are open at the end, %d were at the start", n, descriptors)
		}
	})
	s.backend = s.listen("127.0.0.1:0")
	go s.acceptAll()

	o := setup{acceptors: 1, maxPipes: 16, want: journal.WantEnds | journal.WantConnects | journal.WantSteps, plan: &Plan{
		Listeners: []Listener{{ID: webID, Name: "web", Phase: PhaseServing, Pool: appID}},
		Pools:     []pool.Pool{{ID: appID, Name: "app", ConnectTimeout: deadline, Targets: []pool.Target{targetAt(0, addrOf(s.backend))}}},
	}}
	if _, is := t.(*testing.B); is {
		o.want = 0
	}
	for _, c := range change {
		c(&o)
	}
	s.plan = o.plan
	s.run(o)
	return s
}

func (s *service) run(o setup) {
	board, err := metrics.NewBoard()
	s.must(err)
	s.board = board
	s.journal, err = journal.New()
	s.must(err)
	s.records, err = s.journal.NewReader()
	s.must(err)
	var listening []net.Listener
	var group Group
	var send []int
	for i := range o.acceptors {
		at := "127.0.0.1:0"
		if i > 0 && !o.apart {
			at = s.addresses[0]
		}
		l := s.listen(at)
		s.addresses = append(s.addresses, l.Addr().String())
		listening = append(listening, l)
		receive, to := -1, -1
		if o.mail != nil {
			receive, to = o.mail(i)
		}
		send = append(send, to)
		own := Sockets{Listeners: map[metrics.ID]int{webID: descriptor(s.t, l.(*net.TCPListener))}, Mail: receive}
		s.views = append(s.views, View{Own: own})
	}
	if o.group != nil {
		o.group(&group)
	}
	for i := range o.acceptors {
		s.views[i].Groups, s.views[i].Mail = map[metrics.ID]Group{webID: group}, send
		s.journal.Use(i)
		board.Acceptor(i).Record.Store(int64(o.want))
		a, err := New(Options{
			Seat: i, Board: board, Journal: s.journal.Writer(i), Restore: func(int) error { return nil }, Settings: Settings{CPUs: o.cpus, MaxPipes: o.maxPipes},
		})
		s.must(err)
		if o.sys != nil {
			o.sys(&a.sys)
		}
		s.acceptors = append(s.acceptors, a)
	}
	for _, a := range s.acceptors {
		go a.Run()
	}
	s.apply(o.plan)
	s.t.Cleanup(func() {
		s.settled()
		s.backend.Close()
		for i, a := range s.acceptors {
			a.Close()
			<-a.Ended()
			listening[i].Close()
			if n := a.cells.PipesOpen.Load(); n != 0 {
				s.t.Errorf("acceptor %d left %d pipes open", i, n)
			}
			if a.slab.used != 0 || a.wheel.armed != 0 {
				s.t.Errorf("acceptor %d left %d slots used and %d timers armed", i, a.slab.used, a.wheel.armed)
			}
		}
		if o.want != 0 {
			s.checkJournal()
		}
		s.records.Close()
		s.must(s.journal.Close())
		s.must(board.Close())
	})
}

// apply puts a Plan in force everywhere, and returns when it is.
func (s *service) apply(plan *Plan) {
	s.t.Helper()
	s.must(s.tryApply(plan))
	for _, a := range s.acceptors {
		waitFor(s.t, "the plan to be in force", func() bool { return a.cells.Generation.Load() == int64(plan.Generation) })
	}
}

// tryApply binds and commits it.
func (s *service) tryApply(plan *Plan) error {
	plan.Generation, plan.Seats = s.plan.Generation+1, nil
	for i := range s.acceptors {
		plan.Seats = append(plan.Seats, Seat{Number: i, Phase: s.phases[i]})
	}
	for _, p := range plan.Pools {
		for _, t := range p.Targets {
			s.board.Weights()[t.ID.Index()].Store(int64(t.Weight) * pool.WeightScale)
		}
	}
	var all []*Bound
	for i, a := range s.acceptors {
		b, err := a.Bind(plan, s.views[i])
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	for i, a := range s.acceptors {
		a.Commit(all[i])
	}
	s.plan = plan
	return nil
}

// renewed is the Plan in force, to be changed and applied.
func (s *service) renewed() *Plan { return s.plan.Renewed() }

// enter brings the listener to a phase.
func (s *service) enter(p Phase) {
	s.t.Helper()
	next := s.renewed()
	next.Listeners[0].Phase = p
	s.apply(next)
}

// listen opens a socket of the port's group. It is not MPTCP: such a socket is
// spliced by another code.
func (s *service) listen(address string) net.Listener {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp", address)
	s.must(err)
	return l
}

func (s *service) acceptAll() {
	defer close(s.conns)
	for {
		c, err := s.backend.Accept()
		if err != nil {
			return
		}
		s.conns <- c.(*net.TCPConn)
	}
}

// dial connects to the service, where acceptors are apart to the first one.
func (s *service) dial() *net.TCPConn {
	s.t.Helper()
	return s.dialTo(0)
}

func (s *service) dialTo(acceptor int) *net.TCPConn {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.addresses[acceptor], deadline)
	s.must(err)
	return s.owned(c.(*net.TCPConn))
}

// wantRefused connects and wants a RST, which may come while Dial looks at the
// connection already.
func (s *service) wantRefused() {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.addresses[0], deadline)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	s.must(err)
	wantEnd(s.t, s.owned(c.(*net.TCPConn)), "", sawRST)
}

// answered is the next connection that reaches the backend.
func (s *service) answered() *net.TCPConn {
	s.t.Helper()
	select {
	case c := <-s.conns:
		return s.owned(c)
	case <-time.After(deadline):
		s.t.Fatal("no connection reached the backend")
		return nil
	}
}

// owned gives a connection the test's deadline and closes it when the test ends.
func (s *service) owned(c *net.TCPConn) *net.TCPConn {
	s.must(c.SetDeadline(time.Now().Add(deadline)))
	s.t.Cleanup(func() { c.Close() })
	return c
}

// pair is both ends of a new session.
func (s *service) pair() (client, backend *net.TCPConn) {
	s.t.Helper()
	client = s.dial()
	return client, s.answered()
}

// settled waits until no session is left, and then checks the cells.
func (s *service) settled() {
	s.t.Helper()
	waitFor(s.t, "the end of all sessions", func() bool { return s.total(func(c *metrics.AcceptorCells) int64 { return c.Sessions.Load() }) == 0 })
	for series, a := range s.acceptors {
		c := a.web()
		var ended uint64
		for i := range c.Closed {
			ended += c.Closed[i].Load()
		}
		for i := range c.Rejected {
			ended += c.Rejected[i].Load()
		}
		if c.Accepted.Load()+c.Taken.Load() != ended+c.HandedOff.Load() || c.Active.Load() != 0 || c.HalfClosed.Load() != 0 || c.Waiting.Load() != 0 {
			s.t.Errorf("%v: accepted %d, ended %d, active %d, half-closed %d, waiting %d", series, c.Accepted.Load(), ended, c.Active.Load(), c.HalfClosed.Load(), c.Waiting.Load())
		}
	}
	for i := range s.board.Held()[:16] {
		if n := s.board.Held()[i].Load(); n != 0 {
			s.t.Errorf("target %d: %d sessions still counted", i, n)
		}
		for _, a := range s.acceptors {
			if n := s.board.Target(a.Seat, metrics.NewID(uint32(i), 1)).Active.Load(); n != 0 {
				s.t.Errorf("target %d: %d sessions still counted at acceptor %d", i, n, a.Seat)
			}
		}
	}
	for series, a := range s.acceptors {
		c := a.cells
		if c.PipesInUse.Load() != 0 || c.SpillBytes.Load() != 0 {
			s.t.Errorf("%v: %d pipes in use, %d bytes spilled", series, c.PipesInUse.Load(), c.SpillBytes.Load())
		}
	}
}

func (s *service) total(of func(*metrics.AcceptorCells) int64) (sum int64) {
	for _, a := range s.acceptors {
		sum += of(a.cells)
	}
	return sum
}

// closed waits until n sessions have ended, and wants each of them to have ended
// with reason.
func (s *service) closed(reason metrics.Reason, n uint64) {
	s.t.Helper()
	var counts [metrics.NumReasons]uint64
	waitFor(s.t, "a session's end as "+reason.String(), func() bool {
		counts = [metrics.NumReasons]uint64{}
		var sum uint64
		for _, a := range s.acceptors {
			c := a.web()
			for i := range metrics.NumReasons {
				counts[i] += c.Closed[i].Load()
				sum += c.Closed[i].Load()
			}
		}
		return sum >= n
	})
	for i, got := range counts {
		if want := map[bool]uint64{true: n}[metrics.Reason(i) == reason]; got != want {
			s.t.Errorf("%d sessions closed as %v, want %d", got, metrics.Reason(i), want)
		}
	}
}

func (s *service) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// The ends that a peer can see.
const (
	sawFIN = "FIN"
	sawRST = "RST"
)

// rest reads c to its end and says which end it was.
func rest(t testing.TB, c net.Conn) (data []byte, end string) {
	t.Helper()
	data, err := io.ReadAll(c)
	switch {
	case err == nil:
		return data, sawFIN
	case errors.Is(err, syscall.ECONNRESET):
		return data, sawRST
	}
	t.Fatal("read to the end: ", err)
	return nil, ""
}

// wantEnd reads c to its end.
func wantEnd(t testing.TB, c net.Conn, wantData, wantEnd string) {
	t.Helper()
	if data, end := rest(t, c); string(data) != wantData || end != wantEnd {
		t.Errorf("%v saw %q and %s, want %q and %s", c.LocalAddr(), data, end, wantData, wantEnd)
	}
}

// send writes all of data; expect reads as much and compares.
func send(t testing.TB, c net.Conn, data string) {
	t.Helper()
	if _, err := io.WriteString(c, data); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c net.Conn, data string) {
	t.Helper()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != data {
		t.Fatalf("got %q, %v; want %q", got, err, data)
	}
}

// abortConn closes c by a RST.
func abortConn(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// descriptor is c's, which stays c's.
func descriptor(t testing.TB, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// waitFor repeats a check until it holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("timed out: ", what)
		}
	}
}

// eachRelay runs a test in every relay mode.
func eachRelay(t *testing.T, run func(t *testing.T, relay Relay)) {
	for relay, name := range []string{RelayAuto: "auto", RelaySplice: "splice", RelayCopy: "copy"} {
		t.Run(name, func(t *testing.T) { run(t, Relay(relay)) })
	}
}
