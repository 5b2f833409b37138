package control

import (
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
)

const testHangAfter = 200 * time.Millisecond

// pack is a watchdog of a real group of sockets, whose acceptors are the test.
type pack struct {
	t *testing.T
	*watchdog
	group *listener.Group
	rows  *steering.Rows

	mu      sync.Mutex
	rescues map[int]int // the rescuer, by hung seat
}

func newPack(t *testing.T, seats ...int) *pack {
	t.Helper()
	k := &pack{t: t, rescues: map[int]int{}}
	board := newBoard(t)
	var err error
	k.watchdog, err = newWatchdog(slog.New(slog.DiscardHandler), board, func(by, hung int, on bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if on {
			k.rescues[hung] = by
		} else {
			delete(k.rescues, hung)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if k.group, err = listener.Open(listener.Options{Address: "127.0.0.1:0", Seats: seats}); err != nil {
		t.Fatal(err)
	}
	if err := k.group.Listen(); err != nil {
		t.Fatal(err)
	}
	if k.rows, err = steering.NewRows(); err != nil {
		t.Fatal(err)
	}
	s := &state{fronts: []*front{{group: k.group, steered: &steered{rows: k.rows}}}}
	s.config.Acceptors = config.Acceptors{HangAfter: testHangAfter}
	for _, number := range seats {
		mail, err := newMailbox()
		if err != nil {
			t.Fatal(err)
		}
		s.seats = append(s.seats, &seat{number: number, mail: mail})
		board.Acceptor(number).PID.Store(1)
		k.park(number)
	}
	k.watch(s)
	go k.run()
	t.Cleanup(func() {
		k.stop()
		k.watchdog.close()
		k.group.Close()
		k.rows.Close()
		for _, st := range s.seats {
			closeMailbox(st.mail)
		}
	})
	return k
}

// turn is what an acceptor tells at the end of one, park that it then waits.
func (k *pack) turn(seat int) { k.board.Acceptor(seat).Heartbeat.Store(metrics.Monotonic()) }

func (k *pack) park(seat int) {
	k.turn(seat)
	k.board.Acceptor(seat).Parked.Store(1)
}

func (k *pack) hangs(seat int) bool { return k.board.Acceptor(seat).Hung.Load() != 0 }

func (k *pack) rescuer(seat int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if by, is := k.rescues[seat]; is {
		return by
	}
	return -1
}

// knock connects clients until one waits for the seat.
func (k *pack) knock(seat int) {
	k.t.Helper()
	for range 200 {
		c, err := net.DialTimeout("tcp", k.group.Addr().String(), 5*time.Second)
		if err != nil {
			k.t.Fatal(err)
		}
		k.t.Cleanup(func() { c.Close() })
		if q, err := listener.QueueOf(k.group.FD(seat)); err == nil && q.Length > 0 {
			return
		}
	}
	k.t.Fatalf("of 200 clients none came to seat %d", seat)
}

// empty accepts all that waits for a seat.
func (k *pack) empty(seat int) {
	for {
		fd, _, err := unix.Accept4(k.group.FD(seat), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		unix.Close(fd)
	}
}

func (k *pack) await(what string, condition func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatal("not within 10 s: ", what)
		}
	}
}

// An acceptor that was given something and does not turn hangs after hang_after, and
// no earlier; a sibling is sent, and let go when it turns.
func TestHungIsWhoWasGivenSomething(t *testing.T) {
	k := newPack(t, 0)
	began := time.Now()
	k.knock(0)
	k.await("it hangs", func() bool { return k.hangs(0) })
	if took := time.Since(began); took < testHangAfter || took > testHangAfter*3/2+3*time.Second {
		t.Errorf("it counts as hung after %v, want %v to %v", took, testHangAfter, testHangAfter*3/2)
	}
	k.await("its row says so", func() bool { return k.rows.Row(0).Flags.Load()&steering.Hung != 0 })
	if by := k.rescuer(0); by != -1 {
		t.Errorf("%d was sent: it is alone", by)
	}
	if n := k.board.Acceptor(0).Hangs.Load(); n != 1 {
		t.Errorf("%d hangs counted", n)
	}
	k.empty(0)
	k.turn(0)
	k.await("it is back", func() bool { return !k.hangs(0) })
	k.await("its row says so", func() bool { return k.rows.Row(0).Flags.Load()&steering.Hung == 0 })
}

// An acceptor that waits for nothing owes nothing, however long; and the watchdog sleeps
// meanwhile.
func TestParkedOnesNeverHang(t *testing.T) {
	k := newPack(t, 0, 1, 2, 3)
	k.await("nobody is in doubt", func() bool { return !k.inDoubt() })
	before := threadSwitches(t)
	time.Sleep(4 * testHangAfter)
	if n := threadSwitches(t) - before; n > 100 { // this test's own, and the runtime's
		t.Errorf("%d switches while nothing was given to anybody", n)
	}
	for seat := range 4 {
		if k.hangs(seat) || k.board.Acceptor(seat).Hangs.Load() != 0 {
			t.Errorf("%d hangs", seat)
		}
	}
}

func (k *pack) inDoubt() bool {
	k.watchdog.mu.Lock()
	defer k.watchdog.mu.Unlock()
	return slices.ContainsFunc(k.seats[:], func(s watched) bool { return s.given != 0 })
}

// threadSwitches is how often threads of this process went to sleep.
func threadSwitches(t *testing.T) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Nvcsw
}

// A busy acceptor whose turns are shorter than hang_after never hangs, not even while its
// queue is never empty; one whose turn had lasted that long already when it was given
// something hangs at once.
func TestBusyOnesDoNotHang(t *testing.T) {
	k := newPack(t, 0)
	k.board.Acceptor(0).Parked.Store(0)
	k.turn(0)
	for deadline := time.Now().Add(5 * testHangAfter); time.Now().Before(deadline); {
		k.knock(0)
		turned := time.Now()
		time.Sleep(testHangAfter / 4)
		hung := k.hangs(0)
		k.turn(0)
		if took := time.Since(turned); hung && took < testHangAfter { // else the test itself was held up
			t.Fatalf("it hangs after %v", took)
		}
		k.await("it does not hang", func() bool { return !k.hangs(0) })
	}
	k.empty(0)
	k.turn(0)
	k.await("it is out of doubt", func() bool { return !k.inDoubt() })
	time.Sleep(testHangAfter + 10*time.Millisecond) // a long turn
	if k.hangs(0) {
		t.Error("it hangs, and nobody gave it anything")
	}
	k.knock(0)
	began := time.Now()
	k.await("it hangs", func() bool { return k.hangs(0) })
	if took := time.Since(began); took >= testHangAfter {
		t.Errorf("it counts as hung %v after it was given something, as if its turn had begun then", took)
	}
}

// A rescuer that hangs itself, dies or leaves is replaced.
func TestRescuerIsReplaced(t *testing.T) {
	k := newPack(t, 0, 1, 2)
	for seat, n := range []int64{0, 5, 9} {
		k.board.Acceptor(seat).Sessions.Store(n)
	}
	keepTurning := func(seats ...int) (stop func()) {
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-end:
					return
				case <-time.After(testHangAfter / 8):
					for _, seat := range seats {
						k.empty(seat)
						k.turn(seat)
					}
				}
			}
		}()
		return func() { close(end); <-ended }
	}
	stop := keepTurning(1, 2)
	k.knock(0)
	k.await("the idlest is sent", func() bool { return k.rescuer(0) == 1 })
	stop()
	stop = keepTurning(2)
	k.knock(1)
	k.await("its rescuer hangs, and another is sent to both", func() bool { return k.rescuer(0) == 2 && k.rescuer(1) == 2 })
	stop()
	stop = keepTurning(1, 2)
	k.await("one that turns needs no rescuer", func() bool { return k.rescuer(1) == -1 && !k.hangs(1) })
	k.board.Acceptor(2).PID.Store(0) // it dies
	k.await("another is sent", func() bool { return k.rescuer(0) == 1 })
	stop()
	stop = keepTurning(0, 1)
	defer func() { stop() }()
	k.await("it turns again, and none is with it", func() bool { return k.rescuer(0) == -1 && !k.hangs(0) })
}

// Every acceptor is given a new Plan, and owes a turn for it.
func TestPlanIsGivenToAll(t *testing.T) {
	k := newPack(t, 0, 1)
	k.await("nobody is in doubt", func() bool { return !k.inDoubt() })
	k.give(7)
	k.board.Acceptor(1).Generation.Store(7)
	k.turn(1)
	k.await("one that does not take it hangs", func() bool { return k.hangs(0) })
	if k.hangs(1) {
		t.Error("one that has taken it hangs")
	}
	k.board.Acceptor(0).Generation.Store(7)
	k.turn(0)
	k.await("it has taken it", func() bool { return !k.hangs(0) })
}
