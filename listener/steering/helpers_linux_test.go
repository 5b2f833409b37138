package steering

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

const deadline = 10 * time.Second

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// service is a group with its rows, its steering and an acceptor for each socket.
type service struct {
	t         *testing.T
	group     *listener.Group
	rows      *Rows
	steering  *Steering
	acceptors []*acceptor
	answer    atomic.Bool // all acceptors do
}

// start serves bind with n acceptors under a policy until the test ends. What
// steering is in force must be what was asked for.
func start(t *testing.T, bind string, n int, policy Policy) *service {
	t.Helper()
	s := &service{t: t, rows: newRows(t)}
	group, err := listener.Open(listener.Options{Address: bind, Seats: seats(n)})
	if err != nil {
		t.Fatal(err)
	}
	s.group = group
	t.Cleanup(func() { group.Close() })
	if err := group.Listen(); err != nil {
		t.Fatal(err)
	}
	for seat := range n {
		s.accept(seat)
	}
	s.attach(policy)
	t.Cleanup(func() {
		if err := s.steering.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// attach steers the group's seats by policy, which must then be in force.
func (s *service) attach(policy Policy) {
	s.t.Helper()
	s.steering = Attach(Options{Sockets: socketsOf(s.group), Order: s.group.Order, Rows: s.rows, Policy: policy})
	if info := s.steering.Info(); info.Effective != policy || info.Reason != "" {
		s.t.Fatalf("asked for %s, got %+v", policy, info)
	}
}

func socketsOf(g *listener.Group) map[int]int {
	fds := make(map[int]int)
	for _, seat := range g.Seats() {
		fds[seat] = g.FD(seat)
	}
	return fds
}

func newRows(t *testing.T) *Rows {
	t.Helper()
	rows, err := NewRows()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rows.Close() })
	return rows
}

// accept adds the acceptor of a seat, the next one, and waits for its first turn.
func (s *service) accept(seat int) *acceptor {
	a := &acceptor{fd: s.group.FD(seat), answers: &s.answer, row: s.rows.Row(seat), seat: s.rows.Seat(seat)}
	s.acceptors = append(s.acceptors, a)
	s.t.Cleanup(a.close)
	a.start()
	waitFor(s.t, "an acceptor's first turn", func() bool { return a.turned.Load() > 0 })
	return a
}

// eachTurns waits until every acceptor has begun and ended a turn.
func (s *service) eachTurns() {
	s.t.Helper()
	began := monotonic()
	waitFor(s.t, "a turn of each acceptor", func() bool {
		for _, a := range s.acceptors {
			if a.turned.Load() < began {
				return false
			}
		}
		return true
	})
}

// onlyTo lets acceptor i alone take more, or with -1 all of them.
func (s *service) onlyTo(i int) {
	for j := range s.acceptors {
		s.rows.SetDraining(j, i >= 0 && j != i)
	}
}

// held is what each acceptor holds, once there are total.
func (s *service) held(total int64) []int64 {
	s.t.Helper()
	var held []int64
	waitFor(s.t, "all connections to be accepted", func() bool {
		held = nil
		var sum int64
		for _, a := range s.acceptors {
			n := heldBy(a.row)
			held = append(held, n)
			sum += n
		}
		return sum == total
	})
	return held
}

func heldBy(row *Row) int64 { return int64(row.Settled.Load()) - row.Gone.Load() }

// dial connects n times to host, from several goroutines at once if parallel.
func (s *service) dial(host string, n int, parallel bool) {
	s.t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(host), s.group.Addr().Port())
	if !parallel {
		for range n {
			s.dialOnce(addr)
		}
		return
	}
	var dialers sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range 8 {
		dialers.Go(func() {
			for left.Add(-1) >= 0 {
				s.dialOnce(addr)
			}
		})
	}
	dialers.Wait()
}

func (s *service) dialOnce(addr netip.AddrPort) {
	c, err := net.DialTimeout("tcp", addr.String(), deadline)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.t.Cleanup(func() { c.Close() })
}

// acceptor accepts as one of sluice's does, and holds what it gets; or, if it answers,
// gives each a byte and closes it.
type acceptor struct {
	fd      int
	answers *atomic.Bool
	row     *Row
	seat    *Seat
	turned  atomic.Int64 // when it last ended a turn
	took    atomic.Int64 // connections it accepted
	conns   []int
	stop    atomic.Bool
	running sync.WaitGroup
}

func (a *acceptor) start() {
	a.stop.Store(false)
	a.seat.Open(true)
	a.running.Go(a.run)
}

func (a *acceptor) halt() {
	a.stop.Store(true)
	a.running.Wait()
}

func (a *acceptor) run() {
	for !a.stop.Load() {
		unix.Poll([]unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}}, 2)
		conn, _, err := unix.Accept4(a.fd, unix.SOCK_CLOEXEC)
		for ; err == nil; conn, _, err = unix.Accept4(a.fd, unix.SOCK_CLOEXEC) {
			a.seat.Accepted()
			a.took.Add(1)
			if a.answers.Load() {
				unix.Write(conn, []byte{'!'})
				unix.Close(conn)
				a.seat.Hold(-1)
			} else {
				a.conns = append(a.conns, conn)
			}
		}
		now := monotonic()
		a.seat.Beat(now, errors.Is(err, unix.EAGAIN))
		a.turned.Store(now)
	}
}

func (a *acceptor) close() {
	a.halt()
	for _, conn := range a.conns {
		unix.Close(conn)
	}
}

func spread(held []int64) int64 {
	low, high := held[0], held[0]
	for _, h := range held {
		low, high = min(low, h), max(high, h)
	}
	return high - low
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out: ", what)
		}
	}
}

// needBPF skips where the program cannot be loaded for want of privilege or of a
// new enough kernel. A kernel that should have it, asked by root, is a failure.
func needBPF(t *testing.T) {
	t.Helper()
	err := Probe().BPF
	if err == nil {
		return
	}
	missing := errors.Is(err, ErrNotSupported)
	if missing && kernelAtLeast(t, 5, 14) || !missing && os.Geteuid() == 0 && os.Getenv("CI") == "true" {
		t.Fatal("this kernel should steer by BPF: ", err)
	}
	t.Skip("no BPF: ", err)
}

func kernelAtLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	parts := strings.FieldsFunc(unix.ByteSliceToString(name.Release[:]), func(r rune) bool { return r < '0' || r > '9' })
	have := [2]int{}
	for i := range have {
		have[i], _ = strconv.Atoi(parts[i])
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no IPv6 loopback on this machine: ", err)
	}
	l.Close()
}

// keepOnly leaves this test, and what it does on its own goroutine, with the
// given capabilities. The thread ends with the test.
func keepOnly(t *testing.T, capabilities uint64) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		word := uint32(capabilities >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

// ownNetwork puts this test, and what it does on its own goroutine, into a
// network namespace that has a loopback and nothing else. The thread ends with the test.
func ownNetwork(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// seats are the first n.
func seats(n int) (all []int) {
	for seat := range n {
		all = append(all, seat)
	}
	return all
}
