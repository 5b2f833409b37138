package steering

import (
	"errors"
	"net"
	"testing"
	"time"

	"sluice/listener"
)

// joined opens n listening sockets in the group of bind, as another process would.
func joined(t *testing.T, bind string, n int) (*listener.Group, []int) {
	t.Helper()
	g, err := listener.Open(listener.Options{Address: bind, Seats: seats(n), Share: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for _, seat := range g.Seats() {
		fds = append(fds, g.FD(seat))
	}
	return g, fds
}

// waitingAt is how many connections wait at a group's sockets.
func waitingAt(t *testing.T, fds []int) (n int) {
	t.Helper()
	for _, fd := range fds {
		q, err := listener.QueueOf(fd)
		if err != nil {
			t.Fatal(err)
		}
		n += q.Length
	}
	return n
}

// A process that steps aside gets nothing more, wherever its sockets stand in the group,
// until it ends that.
func TestStepAside(t *testing.T) {
	for _, test := range []struct{ bind, from string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {":0", "127.0.0.1"}, {":0", "::1"}, {"0.0.0.0:0", "127.0.0.1"},
	} {
		t.Run(test.bind+" from "+test.from, func(t *testing.T) {
			if l, err := net.Listen("tcp", net.JoinHostPort(test.from, "0")); err != nil {
				t.Skipf("no such address here: %v", err)
			} else {
				l.Close()
			}
			first, _ := joined(t, test.bind, 2)
			addr := first.Addr().String()
			ours, fds := joined(t, addr, 3)
			last, _ := joined(t, addr, 2)
			if err := first.Remove(0); err != nil { // the kernel moves its last socket there
				t.Fatal(err)
			}
			var others []int
			for _, g := range []*listener.Group{first, last} {
				for _, seat := range g.Seats() {
					others = append(others, g.FD(seat))
				}
			}
			aside, err := StepAside(ours.Addr(), fds)
			if err != nil {
				t.Fatal(err)
			}
			if aside.Others() != len(others) {
				t.Errorf("%d others, want %d", aside.Others(), len(others))
			}
			if _, err := StepAside(last.Addr(), []int{last.FD(0), last.FD(1)}); err == nil {
				t.Error("two step aside at a time")
			}
			if n := waitingAt(t, fds) + waitingAt(t, others); n != 0 {
				t.Fatalf("%d connections of our own wait", n)
			}
			dialAll(t, test.from, addr, 50)
			if n := waitingAt(t, fds); n != 0 {
				t.Errorf("%d connections came all the same", n)
			}
			for _, fd := range others {
				if waitingAt(t, []int{fd}) == 0 {
					t.Error("one of the others got none of 50")
				}
			}
			if err := aside.End(); err != nil {
				t.Fatal(err)
			}
			dialAll(t, test.from, addr, 50)
			if n := waitingAt(t, fds); n == 0 {
				t.Error("none of 50 came after the end")
			}
		})
	}
}

func TestStepAsideAlone(t *testing.T) {
	g, fds := joined(t, "127.0.0.1:0", 2)
	if _, err := StepAside(g.Addr(), fds); !errors.Is(err, ErrAlone) {
		t.Errorf("%v, want %v", err, ErrAlone)
	}
}

// dialAll makes n connections, which last as long as the test.
func dialAll(t *testing.T, host, addr string, n int) {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	for range n {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}
