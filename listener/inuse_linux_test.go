package listener

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func wantInUse(t *testing.T, err error, sentence string) {
	t.Helper()
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), sentence) {
		t.Errorf("got %v, want EADDRINUSE and %q", err, sentence)
	}
}

func TestPortHeldPlainly(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	addr, err := localAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	for _, share := range []bool{false, true} {
		_, err := Open(Options{Address: addr.String(), Share: share})
		wantInUse(t, err, "did not set SO_REUSEPORT")
	}
}

// A start that fails must not have been in the live group for a moment: each
// connection it were given would be reset.
func TestRefusedOpenTakesNoConnection(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0", Seats: seats(2)})
	var stop atomic.Bool
	var clients, acceptors sync.WaitGroup
	for i := range g.Len() {
		acceptors.Go(func() { answer(t, g.FD(i), &stop) })
	}
	dialed := make(chan struct{}, 1)
	var leave atomic.Bool
	for range 4 {
		clients.Go(func() {
			for !leave.Load() {
				if err := ask(g.Addr()); err != nil {
					t.Errorf("a live group lost a connection: %v", err)
					return
				}
				select {
				case dialed <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		<-dialed // so that connections come all the while
		_, err := Open(Options{Address: g.Addr().String(), Seats: seats(4)})
		wantInUse(t, err, "share = true")
	}
	leave.Store(true)
	clients.Wait()
	stop.Store(true)
	acceptors.Wait()
}

// Of two instances that both passed the probe, one goes live and one gets the error.
func TestTwoStartsAtOnce(t *testing.T) {
	first, err := Open(Options{Address: "127.0.0.1:0", Seats: seats(2)})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := Open(Options{Address: first.Addr().String(), Seats: seats(2)})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Listen(); err != nil {
		t.Fatal(err)
	}
	wantInUse(t, second.Listen(), "after Open")
	for range 20 {
		mustDial(t, first.Addr())
		accept(t, first)
	}
}

func TestShareJoins(t *testing.T) {
	first := live(t, Options{Address: "127.0.0.1:0", Seats: seats(2)})
	second := live(t, Options{Address: first.Addr().String(), Seats: seats(2), Share: true})
	all := &Group{fds: append(append([]int{}, first.fds...), second.fds...)}
	reached := make(map[bool]bool)
	for range 200 { // a fair hash misses one of the two with 2^-199
		mustDial(t, first.Addr())
		i, _ := accept(t, all)
		reached[i < first.Len()] = true
		if len(reached) == 2 {
			return
		}
	}
	t.Errorf("200 connections went to one instance only")
}

func TestPortHeldByAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "needs root, to make a socket in another user's name")
	}
	held := make(chan *Group)
	go func() {
		// A socket belongs to its maker's filesystem uid, which is the thread's own.
		// The thread ends with the goroutine: it is never unlocked.
		runtime.LockOSThread()
		defer close(held)
		const nobody = 65534
		if err := unix.Setfsuid(nobody); err != nil {
			t.Error(err)
			return
		}
		g, err := Open(Options{Address: "127.0.0.1:0", Seats: seats(2)})
		if err != nil {
			t.Error(err)
			return
		}
		held <- g
	}()
	g := <-held
	if g == nil {
		return
	}
	defer g.Close()
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	for _, share := range []bool{false, true} {
		_, err := Open(Options{Address: g.Addr().String(), Share: share})
		wantInUse(t, err, "another user's process")
	}
}
