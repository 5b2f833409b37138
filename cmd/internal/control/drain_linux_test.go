package control

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/metrics"
	"sluice/proxy"
)

// fakeHost keeps no acceptors. It notes what it is asked to do, and when.
type fakeHost struct {
	began    time.Time
	calls    []string
	sessions atomic.Int64
	accepted atomic.Uint64
}

func (h *fakeHost) note(what string) {
	h.calls = append(h.calls, fmt.Sprintf("%v %s", time.Since(h.began), what))
}

func (h *fakeHost) start() error                    { return nil }
func (h *fakeHost) startAccepting() error           { return nil }
func (h *fakeHost) leave()                          { h.note("leave") }
func (h *fakeHost) rescue(int, int, bool)           {}
func (h *fakeHost) apply(*proxy.Plan) error         { return nil }
func (h *fakeHost) stopAccepting()                  { h.note("stop accepting") }
func (h *fakeHost) cut(r metrics.Reason)            { h.note("cut " + r.String()) }
func (h *fakeHost) find(netip.AddrPort) (int, bool) { return 0, false }
func (h *fakeHost) close()                          { h.note("close") }
func (h *fakeHost) workers() []metrics.Worker       { return nil }
func (h *fakeHost) placement() []metrics.Acceptor   { return nil }

func (h *fakeHost) drainage(timeout time.Duration, signals <-chan os.Signal) *drainage {
	h.began = time.Now()
	return &drainage{
		host: h, close: func() { h.note("close sockets") }, timeout: timeout, signals: signals,
		sessions: h.sessions.Load, accepted: h.accepted.Load, log: slog.New(slog.DiscardHandler),
	}
}

func TestDrain(t *testing.T) {
	for _, row := range []struct {
		name   string
		before func(h *fakeHost, signals chan os.Signal)
		clean  bool
		calls  []string
	}{
		{
			"idle", func(*fakeHost, chan os.Signal) {}, true,
			[]string{"0s leave", "200ms stop accepting", "200ms close sockets", "200ms close"},
		},
		{
			"handshakes end late", func(h *fakeHost, _ chan os.Signal) {
				for at := range 3 {
					time.AfterFunc(time.Duration(at+1)*150*time.Millisecond+time.Millisecond, func() { h.accepted.Add(1) })
				}
			}, true,
			[]string{"0s leave", "660ms stop accepting", "660ms close sockets", "660ms close"}, // 200 ms after the last, of 451 ms
		},
		{
			"connections never cease", func(h *fakeHost, _ chan os.Signal) {
				tick := time.NewTicker(50 * time.Millisecond)
				go func() {
					for at := range tick.C {
						if h.accepted.Add(1); at.Sub(h.began) > 4*time.Second {
							tick.Stop()
							return
						}
					}
				}()
			}, true,
			[]string{"0s leave", "2s stop accepting", "2s close sockets", "2s close"},
		},
		{
			"sessions end by themselves", func(h *fakeHost, _ chan os.Signal) {
				h.sessions.Store(1)
				time.AfterFunc(5*time.Second+time.Millisecond, func() { h.sessions.Store(0) })
			}, true,
			[]string{"0s leave", "200ms stop accepting", "200ms close sockets", "5.01s close"},
		},
		{
			"sessions outlast the deadline", func(h *fakeHost, _ chan os.Signal) { h.sessions.Store(1) }, false,
			[]string{"0s leave", "200ms stop accepting", "200ms close sockets", "10.01s cut drain_deadline", "10.01s close"},
		},
		{
			"a signal while queues are emptied", func(h *fakeHost, signals chan os.Signal) {
				h.sessions.Store(1)
				time.AfterFunc(55*time.Millisecond, func() { signals <- syscall.SIGTERM })
			}, false,
			[]string{"0s leave", "55ms stop accepting", "55ms close sockets", "55ms cut drain_deadline", "55ms close"},
		},
		{
			"a signal while sessions end", func(h *fakeHost, signals chan os.Signal) {
				h.sessions.Store(1)
				time.AfterFunc(3333*time.Millisecond, func() { signals <- syscall.SIGTERM })
			}, false,
			[]string{"0s leave", "200ms stop accepting", "200ms close sockets", "3.333s cut drain_deadline", "3.333s close"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, signals := &fakeHost{}, make(chan os.Signal, 1)
				d := h.drainage(10*time.Second, signals)
				row.before(h, signals)
				if clean := d.run(); clean != row.clean {
					t.Errorf("clean is %v", clean)
				}
				if !reflect.DeepEqual(h.calls, row.calls) {
					t.Errorf("%q\nwant %q", h.calls, row.calls)
				}
				time.Sleep(5 * time.Second) // what row.before began, ends
			})
		})
	}
}

// What waits in an accept queue holds a drain up until it has been accepted, and
// nobody comes in meanwhile.
func TestDrainWaitsForTheQueues(t *testing.T) {
	g, err := listener.Open(listener.Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	waits, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()

	h := &fakeHost{}
	d := h.drainage(20*time.Second, nil)
	d.groups = []*listener.Group{g}
	d.close = func() { g.Close() }
	done := make(chan bool)
	go func() { done <- d.run() }()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(2 * quietFor):
	}
	if c, err := net.DialTimeout("tcp", g.Addr().String(), 100*time.Millisecond); err == nil {
		c.Close()
		t.Error("a new connection was let in")
	}
	conn, _, err := unix.Accept(g.FD(0))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	h.accepted.Add(1)
	select {
	case clean := <-done:
		if !clean {
			t.Error("not clean")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for an empty queue")
	}
}
