package host

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

func TestOrdersTakeEffect(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1, 2, 3)
		web := w.listen()
		if err := w.Prepare(w.orders(web)); err != nil {
			t.Fatal(err)
		}
		if n := len(w.Placement()); n != 0 {
			t.Errorf("%d acceptors before the first Commit", n)
		}
		w.Commit()
		w.waitForPlan(0, 1, 2, 3)
		const clients = 20
		for range clients {
			w.dial(web)
		}
		w.wait("all are accepted", func() bool { return w.allAccepted(web) == clients })
		for i, a := range w.Placement() {
			want := metrics.Acceptor{Number: i}
			if mode == Process {
				want.Worker = i
			}
			if a != want {
				t.Errorf("%+v, want %+v", a, want)
			}
		}
		for _, m := range w.Workers() {
			if m.State != metrics.WorkerRunning || m.PID == 0 || m.OpenFDs == 0 || m.Restarts != 0 {
				t.Errorf("%+v", m)
			}
		}

		more := w.listen()
		w.publish(web, more)
		w.waitForPlan(0, 1, 2, 3)
		w.dial(more)
		w.wait("the new listener serves", func() bool { return w.allAccepted(more) == 1 })
	})
}

// Orders that are not whole change nothing, and no acceptor is asked.
func TestBadOrders(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0, 1)
		for _, row := range []struct {
			name  string
			spoil func(o *Orders)
			text  string
		}{
			{"no plan", func(o *Orders) { o.Plan = nil }, "without a plan"},
			{"old generation", func(o *Orders) { o.Plan.Generation = 1 }, "generation 1 after 1"},
			{"seat out of range", func(o *Orders) { o.Plan.Seats[0].Number = metrics.MaxAcceptors }, "bad seat 64"},
			{"seat below zero", func(o *Orders) { o.Plan.Seats[0].Number = -1 }, "bad seat -1"},
			{"seat twice", func(o *Orders) { o.Plan.Seats[0].Number = 1 }, "bad seat 1"},
			{"phase of a seat", func(o *Orders) { o.Plan.Seats[0].Phase = proxy.PhaseCut + 1 }, "bad seat 0 in phase 4"},
			{"no settings", func(o *Orders) { o.Settings = o.Settings[:1] }, "no settings for seat 1"},
			{"no group", func(o *Orders) { delete(o.Groups, web.ID) }, "no group"},
			{"no socket", func(o *Orders) { o.Groups[web.ID].Sockets[1] = -1 }, "no socket for seat 1"},
			{"listener out of range", func(o *Orders) { o.Plan.Listeners[0].ID = metrics.NewID(metrics.MaxListeners, 1) }, "bad id 0x11000"},
			{"phase of a listener", func(o *Orders) { o.Plan.Listeners[0].Phase = 99 }, "phase 99"},
			{"no such pool", func(o *Orders) { o.Plan.Listeners[0].Pool = metrics.NewID(poolIndex, 2) }, "no pool 0x20007"},
			{"pool out of range", func(o *Orders) { o.Plan.Pools[0].ID = metrics.NewID(metrics.MaxPools, 1) }, "bad id 0x11000"},
			{"target twice", func(o *Orders) {
				p := &o.Plan.Pools[0]
				p.Targets = append(p.Targets, p.Targets[0])
			}, "bad id 0x10009"},
		} {
			t.Run(row.name, func(t *testing.T) {
				o := w.orders(web)
				row.spoil(&o)
				err := w.Prepare(o)
				if err == nil || !strings.Contains(err.Error(), row.text) {
					t.Errorf("%v, want %q", err, row.text)
				}
				w.Commit() // of nothing
			})
		}
		w.publish(web)
		w.waitForPlan(0, 1)
	})
}

// What one of four can't bind, none does; what was started for it ends.
func TestBindFailureRollsBack(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1, 2)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0, 1, 2)
		inForce := w.generation
		before := map[int]uint64{}
		for seat := range 3 {
			before[seat] = w.descriptors(seat)
		}

		w.setSeats(0, 1, 2, 3)
		bad := w.listen()
		good := bad.sockets[2]
		bad.sockets[2] = w.mail[0].Send
		err := w.Prepare(w.orders(web, bad))
		if err == nil || !strings.Contains(err.Error(), "2: ") || !strings.Contains(err.Error(), "not a stream socket") {
			t.Fatalf("%v; want what seat 2 has against it", err)
		}
		w.Commit() // of nothing
		if n := len(w.Placement()); n != 3 {
			t.Errorf("%d acceptors", n)
		}
		for seat := range 3 {
			if mode == Process {
				w.wait("it lets go of what it was given", func() bool { return w.descriptors(seat) == before[seat] })
			}
			if g := uint64(w.board.Acceptor(seat).Generation.Load()); g != inForce {
				t.Errorf("seat %d runs generation %d, want %d", seat, g, inForce)
			}
		}
		select {
		case seat := <-w.gone:
			t.Errorf("seat %d is said to be gone, and was never there", seat)
		default:
		}
		w.wait("the old ones serve", func() bool {
			w.dial(web)
			return w.allAccepted(web) > 0
		})

		bad.sockets[2] = good
		w.publish(web, bad)
		w.waitForPlan(0, 1, 2, 3)
	})
}

func TestSeatsComeAndGo(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0, 1)
		for range 3 {
			w.setSeats(0, 1, 2, 3)
			w.publish(web)
			w.waitForPlan(0, 1, 2, 3)
			var pids []int
			for _, m := range w.Workers() {
				pids = append(pids, m.PID)
			}

			w.setSeats(0, 1)
			w.seats = append(w.seats, proxy.Seat{Number: 2, Phase: proxy.PhaseClosed}, proxy.Seat{Number: 3, Phase: proxy.PhaseLeaving})
			w.publish(web)
			w.waitForPlan(0, 1, 2, 3)
			leaving := ""
			for _, a := range w.Placement() {
				if a.Leaving {
					leaving += string(rune('0' + a.Number))
				}
			}
			if leaving != "23" {
				t.Errorf("leaving are %q", leaving)
			}

			w.setSeats(0, 1)
			w.publish(web)
			w.gotGone(2, 3)
			if n := len(w.Placement()); n != 2 {
				t.Errorf("%d acceptors, want 2", n)
			}
			if mode == Process {
				for _, pid := range pids[2:] {
					if !ended(pid) {
						t.Errorf("process %d still runs", pid)
					}
				}
			}
		}
		for i, m := range w.Workers() {
			if m.Restarts != 0 {
				t.Errorf("worker %d was restarted", i)
			}
		}
	})
}

// What is prepared last is what counts; acceptors that only an earlier one names end.
func TestSecondThoughts(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0)
		w.setSeats(0, 1, 2)
		if err := w.Prepare(w.orders(web)); err != nil {
			t.Fatal(err)
		}
		w.setSeats(0, 2)
		if err := w.Prepare(w.orders(web)); err != nil {
			t.Fatal(err)
		}
		if err := w.Prepare(Orders{}); err == nil { // and a failed one is none
			t.Error("orders of nothing are taken")
		}
		w.Commit()
		if n := len(w.Placement()); n != 1 {
			t.Errorf("%d acceptors", n)
		}
		w.setSeats(0, 1)
		w.publish(web)
		w.waitForPlan(0, 1)
		if n := len(w.Placement()); n != 2 {
			t.Errorf("%d acceptors", n)
		}
	})
}

// A seat that comes back before its last acceptor has ended is refused.
func TestSeatIsTakenUntilItIsGone(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	w.stop(1)
	w.setSeats(0)
	w.publish(web)
	w.setSeats(0, 1)
	if err := w.Prepare(w.orders(web)); err == nil || !strings.Contains(err.Error(), "not ended yet") {
		t.Errorf("%v", err)
	}
	w.gotGone(1)
	w.publish(web)
	w.waitForPlan(0, 1)
}

func TestFind(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		w := newWorld(t, mode, 0, 1, 2, 3)
		web := w.listen()
		w.publish(web)
		w.waitForPlan(0, 1, 2, 3)
		if seat, ok := w.Find(netip.MustParseAddrPort("127.0.0.1:1")); ok {
			t.Errorf("seat %d has nobody's session", seat)
		}
		for range 10 {
			var before [maxSeats]uint64
			for seat := range before {
				before[seat] = w.accepted(web, seat)
			}
			w.dial(web)
			var source netip.AddrPort
			select {
			case c := <-w.backends:
				source = netip.MustParseAddrPort(c.RemoteAddr().String())
			case <-time.After(10 * time.Second):
				t.Fatal("nobody comes to the backend")
			}
			if seat, ok := w.Find(source); !ok || w.accepted(web, seat) != before[seat]+1 {
				t.Errorf("found at %d, %v; accepted before %v", seat, ok, before)
			}
		}
	})
}

// What a host has opened and begun is gone after Close.
func TestNothingIsLeft(t *testing.T) {
	run(t, func(t *testing.T, mode string) {
		once := func() {
			w := newWorld(t, mode, 0, 1)
			defer w.end()
			w.publish(w.listen())
			w.waitForPlan(0, 1)
			w.setSeats(1, 2)
			w.publish(w.listeners...)
			w.waitForPlan(1, 2)
			w.gotGone(0)
			w.setSeats(1, 2, 3)
			o := w.orders(w.listeners...)
			o.Groups[w.listeners[0].ID].Sockets[3] = w.mail[3].Send
			if err := w.Prepare(o); err == nil {
				t.Error("a mailbox passes for a listener")
			}
		}
		once() // what is made once and kept
		fds, goroutines := openFDs("/proc/self/fd"), runtime.NumGoroutine()
		once()
		w := &world{TB: t}
		w.wait("descriptors and goroutines are as before", func() bool {
			return openFDs("/proc/self/fd") <= fds && runtime.NumGoroutine() <= goroutines
		})
	})
}
