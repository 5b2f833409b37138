package proxy

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// connectClasses is every errno that connect(2) and SO_ERROR give, by its class.
var connectClasses = map[syscall.Errno]metrics.ConnectError{
	syscall.ECONNREFUSED:  metrics.ConnectRefused,
	syscall.ETIMEDOUT:     metrics.ConnectTimeout,
	syscall.ENETUNREACH:   metrics.ConnectUnreachable,
	syscall.EHOSTUNREACH:  metrics.ConnectUnreachable,
	syscall.EHOSTDOWN:     metrics.ConnectUnreachable,
	syscall.ENETDOWN:      metrics.ConnectUnreachable,
	syscall.ENONET:        metrics.ConnectUnreachable,
	syscall.ECONNRESET:    metrics.ConnectReset,
	syscall.ECONNABORTED:  metrics.ConnectReset,
	syscall.EPIPE:         metrics.ConnectReset,
	syscall.EADDRNOTAVAIL: metrics.ConnectNoPorts,
	syscall.EADDRINUSE:    metrics.ConnectNoPorts,
	syscall.EAGAIN:        metrics.ConnectNoPorts,
	syscall.EPERM:         metrics.ConnectOther,
	syscall.EACCES:        metrics.ConnectOther,
	syscall.EAFNOSUPPORT:  metrics.ConnectNoFamily,
	syscall.ENODEV:        metrics.ConnectUnreachable,
}

// A try that fails, at whatever step, is counted and repeated on the other backend.
func TestDialRetries(t *testing.T) {
	for _, step := range []string{"socket", "bind", "connect", "watch", "sockError"} {
		for errno, class := range connectClasses {
			if step == "bind" && (errno == syscall.EADDRNOTAVAIL || errno == syscall.ENODEV) {
				continue // see TestDialWithoutItsSource
			}
			t.Run(fmt.Sprintf("%s/%v", step, errno), func(t *testing.T) {
				w := newWorld(t, withSource)
				w.failStep(step, errno)
				_, s := w.accept()
				if step == "sockError" {
					w.turn(w.on(s.fd[backend], epollErr|epollHup))
				}
				if s.state != stateDialing {
					t.Fatalf("state %d after the first failure, want dialing; closed as %q", s.state, w.ended())
				}
				w.wantErrors(class, 1)
				w.turn(w.on(s.fd[client], epollOut), w.on(s.fd[backend], epollOut))
				if s.state != stateRelaying {
					t.Errorf("state %d, want relaying", s.state)
				}
				w.wantNotices(map[bool]NoticeKind{true: NoticeNoPorts, false: NoticeConnectFailed}[class == metrics.ConnectNoPorts])
				w.settled()
			})
		}
	}
}

// When the retry budget is spent, the last failure gives the reason.
func TestDialGivesUp(t *testing.T) {
	for errno, class := range connectClasses {
		t.Run(errno.Error(), func(t *testing.T) {
			w := newWorld(t)
			w.faults["connect"] = always(errno)
			_, s := w.accept()
			want := metrics.ReasonConnectFailed
			switch class {
			case metrics.ConnectTimeout:
				want = metrics.ReasonConnectTimeout
			case metrics.ConnectNoPorts: // it waits for a port, and the loop rests
				if s.state != stateWaiting {
					t.Fatalf("state %d, want waiting", s.state)
				}
				w.pass(2 * time.Second)
				if n := w.calls["connect"]; n < 4 || n > 24 {
					t.Errorf("%d calls of connect in a connect_timeout of 1s", n)
				}
			}
			if class != metrics.ConnectNoPorts && w.calls["connect"] != 2 {
				t.Errorf("%d calls of connect, want 2", w.calls["connect"])
			}
			if got := w.ended(); got != want.String() {
				t.Errorf("closed as %q, want %q", got, want)
			}
			w.settled()
		})
	}
}

// A lack of sluice's own is not the backend's fault: the session waits and asks the
// same backend again.
func TestDialWaitsForDescriptors(t *testing.T) {
	for _, step := range []string{"socket", "bind", "connect", "watch"} {
		for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%s/%v", step, errno), func(t *testing.T) {
				w := newWorld(t, withSource)
				w.failStep(step, errno)
				_, s := w.accept()
				if s.state != stateWaiting || s.fd[backend] >= 0 || w.a.cells.Backoffs.Load() != 1 {
					t.Fatalf("state %d, backend descriptor %d, %d pauses", s.state, s.fd[backend], w.a.cells.Backoffs.Load())
				}
				w.pass(parkFor + 3*tickLength)
				if s.state != stateDialing {
					t.Errorf("state %d, want dialing", s.state)
				}
				w.wantErrors(metrics.ConnectOther, 0)
				w.settled()
			})
		}
	}
}

// A lack that lasts is waited out, without spinning and with nothing new accepted:
// it is not the client's fault either.
func TestDialWaitsOutALack(t *testing.T) {
	w := newWorld(t)
	w.faults["socket"] = always(syscall.EMFILE)
	_, s := w.accept()
	w.queue = 1
	w.pass(10 * time.Second)
	if s.state != stateWaiting || w.queue != 1 {
		t.Fatalf("state %d, closed as %q; %d wait in the queue", s.state, w.ended(), w.queue)
	}
	if n := w.calls["socket"]; n > 100 {
		t.Errorf("%d calls of socket in ten seconds", n)
	}
	w.wantNotices(NoticeAcceptPaused)
	w.faults["socket"] = nil
	w.pass(2 * maxPause)
	if s.state != stateDialing || w.queue != 0 {
		t.Errorf("state %d, %d in the queue after the lack", s.state, w.queue)
	}
	w.settled()
}

// connect_timeout is per try, and the answer of the next try counts.
func TestDialTimesOut(t *testing.T) {
	w := newWorld(t)
	_, s := w.accept()
	first := s.fd[backend]
	w.pass(time.Second + 3*tickLength)
	if w.at(int(s.fd[backend])); s.fd[backend] == first || w.fds[int(first)].closed == "" {
		t.Fatal("the first try still goes on")
	}
	w.turn(w.on(s.fd[backend], epollOut))
	if s.state != stateRelaying {
		t.Errorf("state %d, want relaying", s.state)
	}
	w.wantErrors(metrics.ConnectTimeout, 1)
	w.settled()
}

// An answer that comes in the turn of the deadline is an answer.
func TestDialAnsweredAtTheDeadline(t *testing.T) {
	w := newWorld(t)
	_, s := w.accept()
	w.elapsed += 5 * time.Second
	w.turn(w.on(s.fd[backend], epollOut))
	if s.state != stateRelaying {
		t.Errorf("state %d, want relaying", s.state)
	}
	w.settled()
}

func TestRestoredBackendIsTold(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Pools[0].Targets = p.Pools[0].Targets[:1] })
	w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNREFUSED}
	w.accept()
	w.accept()
	w.wantNotices(NoticeConnectFailed) // once for the run of failures
	w.relaying()
	w.wantNotices(NoticeConnectRestored)
	w.settled()
}

func withSource(p *Plan) { p.Pools[0].Sources = []netip.Addr{netip.MustParseAddr("192.0.2.9")} }

// failStep makes the first try fail at step. The watch of the client comes before.
func (w *world) failStep(step string, errno syscall.Errno) {
	w.faults[step] = []syscall.Errno{errno}
	if step == "watch" {
		w.faults[step] = []syscall.Errno{0, errno}
	}
}

// attempts are the connects for sessions, over all targets.
func (w *world) attempts() (n uint64) {
	for _, target := range w.plan.Pools[0].Targets {
		n += w.a.Board.Target(0, target.ID).Attempts.Load()
	}
	return n
}

// wantErrors wants n failed tries over all backends, all of one class.
func (w *world) wantErrors(class metrics.ConnectError, n uint64) {
	w.t.Helper()
	var got [metrics.NumConnectErrors]uint64
	for _, target := range w.plan.Pools[0].Targets {
		for c := range got {
			got[c] += w.a.Board.Target(0, target.ID).Errors[c].Load()
		}
	}
	var want [metrics.NumConnectErrors]uint64
	want[class] = n
	if got != want {
		w.t.Errorf("connect errors by class %v, want %v", got, want)
	}
	if retries := w.a.Board.Pool(0, appID).Retries.Load(); retries != n {
		w.t.Errorf("%d retries, want %d", retries, n)
	}
}

// One that leaves while it waits for a descriptor holds no other up behind it.
func TestClientLeavesDuringALack(t *testing.T) {
	w := newWorld(t)
	w.faults["socket"] = []syscall.Errno{syscall.EMFILE}
	_, s := w.accept()
	w.queue = 1
	w.turn(w.on(s.fd[client], gone))
	if got := w.ended(); got != "client_reset" {
		t.Errorf("closed as %q", got)
	}
	w.pass(maxPause)
	if w.queue != 0 {
		t.Error("a connection still waits")
	}
	w.settled()
}

// The same holds for one that has its descriptor and now waits for a source port.
func TestLackEndsWithTheDescriptor(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Pools[0].ConnectTimeout = time.Minute })
	w.faults["socket"] = []syscall.Errno{syscall.EMFILE}
	w.accept()
	w.faults["connect"] = always(syscall.EADDRNOTAVAIL)
	w.queue = 1
	w.pass(maxPause)
	if w.queue != 0 {
		t.Error("a connection still waits")
	}
	w.settled()
}
