package steering

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

var policies = []Policy{Least, RoundRobin, CPU, Hash}

// A group grows from one socket to sixteen and shrinks back while clients come. None
// of them is refused or reset, and a seat that was removed gets nothing new.
func TestGrowAndShrink(t *testing.T) {
	needBPF(t)
	for _, migrate := range []string{"0", "1"} {
		for _, policy := range policies {
			t.Run(fmt.Sprint(policy, " tcp_migrate_req ", migrate), func(t *testing.T) {
				t.Parallel() // each in a network of its own, and it mostly waits for handshakes that are sent again
				ownNetwork(t)
				if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte(migrate), 0); err != nil {
					t.Fatal(err)
				}
				s := start(t, "127.0.0.1:0", 1, policy)
				clients := s.stream()
				defer clients.end()
				for _, most := range []int{4, 16} {
					for seat := len(s.acceptors); seat < most; seat++ {
						s.join(seat)
					}
					clients.more(100)
					if policy != CPU { // this machine may have fewer of those
						s.eachTakes()
					}
				}
				// From the ends and the middle, so that the kernel's order is soon none of ours.
				for _, seat := range []int{7, 0, 15, 3, 4, 14, 1, 8, 12, 2, 11, 5, 13, 10, 6} {
					s.leave(clients, seat)
				}
				// The last one takes all, and so does one that comes with a number used before.
				s.rows.Reset(7)
				s.join(7)
				if policy != CPU {
					s.eachTakes()
				}
				s.leave(clients, 9)
				clients.more(20)
			})
		}
	}
}

// A seat that leaves and is called back gets connections again, and at once: its socket
// has been in the program's map all the time.
func TestCalledBack(t *testing.T) {
	needBPF(t)
	for _, policy := range []Policy{Least, RoundRobin} {
		t.Run(policy.String(), func(t *testing.T) {
			s := start(t, "127.0.0.1:0", 3, policy)
			if err := s.steering.Remove(1); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := s.steering.Place(1, s.group.FD(1)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			clients := s.stream()
			defer clients.end()
			s.eachTakes()
		})
	}
}

// The policy of a live group changes while clients come and one seat is leaving.
func TestPolicyChangesLive(t *testing.T) {
	needBPF(t)
	ownNetwork(t)
	s := start(t, "127.0.0.1:0", 4, Least)
	clients := s.stream()
	defer clients.end()
	leaver := s.acceptors[1]
	s.removed(clients, 1)
	took := leaver.took.Load()
	staying := socketsOf(s.group)
	delete(staying, 1)
	for _, policy := range []Policy{Hash, RoundRobin, CPU, Least, RoundRobin, Least, CPU, Hash} {
		if err := s.steering.Close(); err != nil {
			t.Fatal(err)
		}
		clients.more(20)
		s.steering = Attach(Options{Sockets: staying, Order: s.group.Order, Rows: s.rows, Policy: policy})
		if info := s.steering.Info(); info.Effective != policy || info.Reason != "" {
			t.Fatalf("asked for %s, got %+v", policy, info)
		}
		clients.more(50)
		if now := leaver.took.Load(); now != took {
			t.Errorf("%s: the leaver took %d", policy, now-took)
		}
	}
	if err := s.steering.Place(1, leaver.fd); err != nil { // it stays after all
		t.Fatal(err)
	}
	s.eachTakes()
}

// A seat that is not steered to cannot be removed, nor the last one.
func TestRemoveRefuses(t *testing.T) {
	rows := newRows(t)
	s := attach(t, openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(2)}), rows, Hash)
	for _, test := range []struct {
		seat int
		want string
	}{{5, "not steered to"}, {0, ""}, {0, "not steered to"}, {1, "the last one"}} {
		err := s.Remove(test.seat)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("remove %d: %v, want %q", test.seat, err, test.want)
		}
	}
	if rows.Row(0).Flags.Load() != Draining || rows.Row(1).Flags.Load() != 0 {
		t.Errorf("flags %b and %b", rows.Row(0).Flags.Load(), rows.Row(1).Flags.Load())
	}
}

// join gives a seat a socket and an acceptor.
func (s *service) join(seat int) {
	s.t.Helper()
	if err := errors.Join(s.group.Add(seat), s.group.Listen()); err != nil {
		s.t.Fatal(err)
	}
	s.accept(seat)
	if err := s.steering.Place(seat, s.group.FD(seat)); err != nil {
		s.t.Fatal(err)
	}
}

// removed takes a seat out of steering, and waits until it has what is under way.
func (s *service) removed(clients *stream, seat int) {
	s.t.Helper()
	if err := s.steering.Remove(seat); err != nil {
		s.t.Fatal(err)
	}
	clients.more(20)
	waitFor(s.t, "the end of what is under way", func() bool {
		q, err := listener.QueueOf(s.group.FD(seat))
		return err == nil && q.Length == 0 && !halfOpen(s.t)
	})
}

// leave takes a seat away: steering, acceptor and socket.
func (s *service) leave(clients *stream, seat int) {
	s.t.Helper()
	var leaver *acceptor
	for _, a := range s.acceptors {
		if a.fd == s.group.FD(seat) {
			leaver = a
		}
	}
	s.removed(clients, seat)
	leaver.halt()
	clients.more(30)
	if q, err := listener.QueueOf(leaver.fd); err != nil || q.Length != 0 {
		s.t.Errorf("seat %d was removed: queue %+v, %v", seat, q, err)
	}
	if err := errors.Join(s.group.Remove(seat), s.steering.Removed(seat)); err != nil {
		s.t.Fatal(err)
	}
	leaver.fd = -1
}

// eachTakes waits until each acceptor of the group has taken one more.
func (s *service) eachTakes() {
	s.t.Helper()
	for _, a := range s.acceptors {
		if before := a.took.Load(); a.fd >= 0 {
			waitFor(s.t, "each acceptor to take one", func() bool { return a.took.Load() > before })
		}
	}
}

// halfOpen says whether a handshake is under way in this thread's network namespace.
func halfOpen(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const synReceived = " 03 "
	return strings.Contains(string(b), synReceived)
}

// stream is clients that come one after the other, until its end.
type stream struct {
	t       *testing.T
	served  atomic.Int64
	stop    atomic.Bool
	running sync.WaitGroup
	network int // the namespace
}

// stream begins it, in this thread's network namespace. All acceptors answer from now on.
func (s *service) stream() *stream {
	s.t.Helper()
	s.answer.Store(true)
	network, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &stream{t: s.t, network: network}
	for range 2 {
		c.running.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
				c.t.Error(err)
				return
			}
			for !c.stop.Load() {
				if err := ask(s.group.Addr()); err != nil {
					c.t.Errorf("client %d: %v", c.served.Load(), err)
					return
				}
				c.served.Add(1)
			}
		})
	}
	return c
}

// end must come before that of the acceptors.
func (c *stream) end() {
	c.stop.Store(true)
	c.running.Wait()
	unix.Close(c.network)
}

// more waits until n further clients have been served, from connect to answer.
func (c *stream) more(n int64) {
	c.t.Helper()
	want := c.served.Load() + n + 2 // when the two that are under way began is not known
	waitFor(c.t, "clients to be served", func() bool { return c.served.Load() >= want || c.t.Failed() })
}

// ask connects and waits for the byte.
func ask(addr netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", addr.String(), deadline)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}
