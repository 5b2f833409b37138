package host

import (
	"net/netip"
	"testing"
	"time"

	"sluice/proxy"
)

// A loop that does not turn delays neither Orders nor a rescue, and Find and Close for
// seconds only. Here it never begins to.
func TestBlockedLoopDelaysNothingForLong(t *testing.T) {
	w := newWorld(t, Goroutine, 0, 1)
	web := w.listen()
	th := w.Host.(*threads)
	blocked, err := proxy.New(proxy.Options{Seat: 1, Board: w.board, Settings: proxy.Settings{MaxPipes: 4}})
	if err != nil {
		t.Fatal(err)
	}
	th.all[1] = &thread{Acceptor: blocked, running: true, lent: map[int]*proxy.Sockets{}}
	w.took("Orders", time.Second, func() {
		w.publish(web)
		w.waitForPlan(0)
	})
	w.took("Rescue", time.Second, func() { w.Rescue(0, 1, true); w.Rescue(1, 0, true) })
	w.took("Find", 3*time.Second, func() { w.Find(netip.MustParseAddrPort("127.0.0.1:1")) })
	w.took("Close", closeWithin+time.Second, w.Close)
}

func TestRescueByThread(t *testing.T) {
	w := newWorld(t, Goroutine, 0, 1)
	web := w.listen()
	th := w.Host.(*threads)
	blocked, err := proxy.New(proxy.Options{Seat: 1, Board: w.board, Settings: proxy.Settings{MaxPipes: 4}})
	if err != nil {
		t.Fatal(err)
	}
	th.all[1] = &thread{Acceptor: blocked, running: true, lent: map[int]*proxy.Sockets{}}
	w.publish(web)
	w.waitForPlan(0)
	queue := []int{web.sockets[1]}
	w.wait("somebody waits behind it", func() bool {
		w.dial(web)
		return Waiting(queue) > 0
	})
	w.Rescue(0, 1, true)
	w.wait("the queue is emptied", func() bool { return Waiting(queue) == 0 })
	w.Rescue(0, 1, false)
	w.publish(web)
	w.waitForPlan(0)
	w.wait("nobody serves it any more", func() bool {
		w.dial(web)
		return Waiting(queue) > 0
	})
}
