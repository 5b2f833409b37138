package host

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// run runs a test over both modes.
func run(t *testing.T, body func(t *testing.T, mode string)) {
	for _, mode := range []string{Goroutine, Process} {
		t.Run(mode, func(t *testing.T) { body(t, mode) })
	}
}

// world is a host with what control would give it: a board, listeners, mailboxes, and
// a backend that says nothing.
type world struct {
	testing.TB
	backends   chan net.Conn  // what has come to the backend
	target     netip.AddrPort // the backend, but where a test has its own
	board      *metrics.Board
	journal    *journal.Journal
	backend    net.Listener
	rows       *steering.Rows // of all listeners
	listeners  []*tested
	mail       []Mailbox
	seats      []proxy.Seat
	generation uint64
	gone       chan int
	ended      bool
	log        logBuffer
	Host
}

// tested is one listener with a socket for each of maxSeats acceptors.
type tested struct {
	proxy.Listener
	group   *listener.Group
	sockets []int
}

// maxSeats is how many acceptors a world may have.
const maxSeats = 4

const poolIndex, targetIndex = 7, 9

func newWorld(t testing.TB, mode string, seats ...int) *world {
	t.Helper()
	w := &world{TB: t, gone: make(chan int, 64)}
	var err error
	if w.board, err = metrics.NewBoard(); err != nil {
		t.Fatal(err)
	}
	if w.journal, err = journal.New(); err != nil {
		t.Fatal(err)
	}
	if w.rows, err = steering.NewRows(); err != nil {
		t.Fatal(err)
	}
	if w.backend, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.backends = make(chan net.Conn, 256)
	go hold(w.backend, w.backends)
	w.target = netip.MustParseAddrPort(w.backend.Addr().String())
	w.board.OpenPool(metrics.NewID(poolIndex, 1))
	w.board.OpenTarget(metrics.NewID(targetIndex, 1))
	w.board.Weights()[targetIndex].Store(1)
	for range maxSeats {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.mail = append(w.mail, Mailbox{fds[0], fds[1]})
	}
	w.setSeats(seats...)
	w.Host = New(Options{
		Mode: mode, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Board: w.board, Journal: w.journal,
		Notices: make(chan proxy.Notice, 64), Gone: func(seat int) { w.gone <- seat },
	})
	t.Cleanup(w.end)
	return w
}

func (w *world) end() {
	if w.ended {
		return
	}
	w.ended = true
	w.Host.Close()
	w.backend.Close()
	for _, l := range w.listeners {
		l.group.Close()
	}
	for _, m := range w.mail {
		unix.Close(m.Receive)
		unix.Close(m.Send)
	}
	_ = w.rows.Close()
	_ = w.board.Close()
	_ = w.journal.Close()
	if w.Failed() {
		w.Logf("the host's log:\n%s", w.log.String())
	}
}

// hold accepts connections, tells of them while there is room, and keeps them until their
// other end closes.
func hold(l net.Listener, came chan<- net.Conn) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case came <- c:
		default:
		}
		go func() {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

// listen adds a listener that serves from the next Orders on.
func (w *world) listen() *tested {
	w.Helper()
	g, err := listener.Open(listener.Options{Address: "127.0.0.1:0", Seats: firstSeats(maxSeats)})
	if err != nil {
		w.Fatal(err)
	}
	if err := g.Listen(); err != nil {
		w.Fatal(err)
	}
	n := uint64(len(w.listeners))
	l := &tested{group: g, Listener: proxy.Listener{
		ID: metrics.NewID(uint32(n), n+1), Name: fmt.Sprint("l", n), Phase: proxy.PhaseServing, Pool: metrics.NewID(poolIndex, 1),
	}}
	for i := range maxSeats {
		l.sockets = append(l.sockets, g.FD(i))
	}
	w.board.OpenListener(l.ID)
	w.listeners = append(w.listeners, l)
	return l
}

func (w *world) setSeats(seats ...int) {
	w.seats = nil
	for _, s := range seats {
		w.seats = append(w.seats, proxy.Seat{Number: s, Phase: proxy.PhaseServing})
	}
}

// orders are those of a new generation, with some of the listeners.
func (w *world) orders(listeners ...*tested) Orders {
	w.generation++
	o := Orders{
		Plan: &proxy.Plan{
			Generation: w.generation, Seats: slices.Clone(w.seats),
			Pools: []pool.Pool{{
				ID: metrics.NewID(poolIndex, 1), Name: "p", ConnectTimeout: time.Second,
				Targets: []pool.Target{{
					ID: metrics.NewID(targetIndex, 1), Backend: "b", Weight: 1,
					Addr: w.target,
				}},
			}},
		},
		Groups: map[metrics.ID]Group{}, Mail: w.mail, Settings: make([]proxy.Settings, maxSeats), DrainTimeout: 20 * time.Second,
	}
	for i := range o.Settings {
		o.Settings[i].MaxPipes = 4
	}
	for _, l := range listeners {
		o.Plan.Listeners = append(o.Plan.Listeners, l.Listener)
		o.Groups[l.ID] = Group{Sockets: slices.Clone(l.sockets), Rows: w.rows}
	}
	return o
}

// publish puts new Orders in force.
func (w *world) publish(listeners ...*tested) {
	w.Helper()
	if err := w.Prepare(w.orders(listeners...)); err != nil {
		w.Fatal(err)
	}
	w.Commit()
}

// wait waits for a condition that must come true soon.
func (w *world) wait(what string, done func() bool) {
	w.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s: it does not come", what)
		}
	}
}

// waitForPlan waits until seats run the last Orders.
func (w *world) waitForPlan(seats ...int) {
	w.Helper()
	for _, seat := range seats {
		w.wait(fmt.Sprintf("seat %d runs generation %d", seat, w.generation), func() bool {
			return uint64(w.board.Acceptor(seat).Generation.Load()) == w.generation
		})
	}
}

func (w *world) worker(seat int) metrics.Worker {
	w.Helper()
	for _, m := range w.Workers() {
		if m.Number == seat {
			return m
		}
	}
	return metrics.Worker{}
}

func (w *world) signal(seat int, sig syscall.Signal) {
	w.Helper()
	if err := syscall.Kill(w.worker(seat).PID, sig); err != nil {
		w.Fatal(err)
	}
}

// stop stops a worker until the test's end, or a SIGCONT.
func (w *world) stop(seat int) {
	w.Helper()
	pid := w.worker(seat).PID
	w.signal(seat, syscall.SIGSTOP)
	w.wait("it stops", func() bool { f := processStat(pid); return len(f) > 0 && f[statState] == "T" })
}

// descriptors counts what a seat's process has open.
func (w *world) descriptors(seat int) uint64 {
	return openFDs(fmt.Sprintf("/proc/%d/fd", w.worker(seat).PID))
}

// has says whether a seat's process has a descriptor of the same socket as fd.
func (w *world) has(seat, fd int) bool {
	socket, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		w.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd", w.worker(seat).PID)
	all, _ := os.ReadDir(dir)
	return slices.ContainsFunc(all, func(e os.DirEntry) bool {
		other, _ := os.Readlink(filepath.Join(dir, e.Name()))
		return other == socket
	})
}

func (w *world) dial(l *tested) net.Conn {
	w.Helper()
	c, err := net.DialTimeout("tcp", l.group.Addr().String(), 5*time.Second)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

func (w *world) accepted(l *tested, seat int) uint64 {
	return w.board.Listener(seat, l.ID).Accepted.Load()
}

func (w *world) allAccepted(l *tested) (n uint64) {
	for seat := range maxSeats {
		n += w.accepted(l, seat)
	}
	return n
}

// took fails the test if something took longer than it may.
func (w *world) took(what string, most time.Duration, f func()) {
	w.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > most {
		w.Errorf("%s took %v, at most %v", what, d, most)
	}
}

func (w *world) gotGone(want ...int) {
	w.Helper()
	var got []int
	for range want {
		select {
		case seat := <-w.gone:
			got = append(got, seat)
		case <-time.After(20 * time.Second):
			w.Fatalf("gone are %v, want %v", got, want)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.Errorf("gone are %v, want %v", got, want)
	}
}

// ended says whether a process has ended; a zombie has.
func ended(pid int) bool {
	f := processStat(pid)
	return len(f) == 0 || f[statState] == "Z"
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func firstSeats(n int) (all []int) {
	for seat := range n {
		all = append(all, seat)
	}
	return all
}
