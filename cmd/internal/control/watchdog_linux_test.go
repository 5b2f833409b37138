package control

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/metrics"
)

// kennel is a watchdog with one seat, whose acceptor the test plays.
type kennel struct {
	*watchdog
	t     *testing.T
	l     *net.TCPListener
	cells *metrics.AcceptorCells
	fd    int
}

func newKennel(t *testing.T) *kennel {
	t.Helper()
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWatchdog(slog.New(slog.DiscardHandler), board, func(int, int, bool) {})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.close()
		f.Close()
		l.Close()
		board.Close()
	})
	k := &kennel{watchdog: w, t: t, l: l, cells: board.Acceptor(0), fd: int(f.Fd())}
	w.hangAfter, w.given = 100*time.Millisecond, 1
	mail, err := newMailbox()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeMailbox(mail) })
	w.seats[0] = watched{exists: true, serves: true, mail: mail}
	w.rewatch(map[int]int{k.fd: 0})
	k.cells.PID.Store(1)
	k.cells.Generation.Store(1)
	k.cells.Heartbeat.Store(1)
	k.cells.Parked.Store(1)
	return k
}

// arrives has a connection come.
func (k *kennel) arrives() {
	k.t.Helper()
	c, err := net.Dial("tcp", k.l.Addr().String())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { c.Close() })
}

// accepts takes what arrived from the queue.
func (k *kennel) accepts() {
	k.t.Helper()
	_ = k.l.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := k.l.Accept()
	if err != nil {
		k.t.Fatal(err)
	}
	c.Close()
}

// hears gives the watchdog what has come, at a time.
func (k *kennel) hears(at time.Duration) (doubt bool) {
	k.t.Helper()
	events := make([]unix.EpollEvent, 8)
	n, err := unix.EpollWait(k.epoll, events, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	k.look(events[:n], int64(at))
	return k.seats[0].given != 0
}

func (k *kennel) hangs() bool { return k.cells.Hung.Load() != 0 }

func TestHangOfWhoIsGivenSomething(t *testing.T) {
	k := newKennel(t)
	k.arrives()
	if !k.hears(10 * time.Second) {
		t.Fatal("nobody is in doubt")
	}
	k.hears(10*time.Second + 90*time.Millisecond)
	if k.hangs() {
		t.Error("it hangs before its time")
	}
	k.hears(10*time.Second + 110*time.Millisecond)
	if !k.hangs() {
		t.Fatal("it does not hang")
	}
	if !waitsAt(k.seats[0].mail.Receive) {
		t.Error("it is parked, and nothing makes it turn")
	}
	k.accepts() // a sibling
	if k.hears(10*time.Second + 130*time.Millisecond); !k.hangs() {
		t.Error("it has not turned, and hangs no more")
	}
	k.cells.Heartbeat.Store(int64(11 * time.Second))
	if k.hears(11*time.Second) || k.hangs() {
		t.Error("it turned, and still hangs or is in doubt")
	}
}

// A watchdog that runs late hears of a connection when the acceptor has long taken it
// and waits again.
func TestNoHangOfWhoHadTakenAll(t *testing.T) {
	k := newKennel(t)
	k.arrives()
	k.accepts()
	k.cells.Heartbeat.Store(int64(9 * time.Second))
	if k.hears(10 * time.Second) {
		t.Error("it is in doubt, and owes nothing")
	}
	k.hears(20 * time.Second)
	if k.hangs() {
		t.Error("it hangs")
	}
}

func TestHangOfWhoOwesAPlan(t *testing.T) {
	k := newKennel(t)
	k.give(2)
	since := time.Duration(metrics.Monotonic())
	if !k.hears(since) {
		t.Error("nobody is in doubt")
	}
	if k.hears(since + time.Second); !k.hangs() {
		t.Error("it does not hang")
	}
}

// Many connections at one socket are one place to look at, and many sockets are all
// looked at.
func TestDoubtEndsWhateverCame(t *testing.T) {
	k := newKennel(t)
	for range 2 * maxQueues {
		k.arrives()
		k.hears(10 * time.Second)
	}
	if n := len(k.seats[0].queues); n != 1 {
		t.Errorf("%d queues are remembered", n)
	}
	for range 2 * maxQueues {
		k.accepts()
	}
	k.seats[0].more = true
	k.cells.Heartbeat.Store(int64(10*time.Second + 1))
	if k.hears(10*time.Second+2) || k.hangs() {
		t.Error("it is in doubt")
	}
}

// An acceptor that lacks descriptors leaves its queues alone for a while.
func TestNoHangOfWhoPauses(t *testing.T) {
	k := newKennel(t)
	k.cells.Paused.Store(1)
	k.arrives()
	k.hears(10 * time.Second)
	if k.hears(11 * time.Second); k.hangs() {
		t.Error("it hangs, and only paused")
	}
	if k.hears(11*time.Second + 110*time.Millisecond); !k.hangs() {
		t.Error("it does not hang, and paused too long")
	}
}

// A worker holds the sockets too, so epoll would report their shutdown.
func TestNoHangBySocketsThatClose(t *testing.T) {
	k := newKennel(t)
	k.unwatch(k.fd)
	if err := unix.Shutdown(k.fd, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	if k.hears(10 * time.Second) {
		t.Error("it is in doubt")
	}
}
