package host

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// orders is how many orders a worker's process was given, read once it has nothing to hear.
func (w *world) ordersTo(seat int) uint64 {
	s := w.Host.(*supervisor)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[seat].process.conn.last
}

// A worker that was stopped through many Plans is told the last one when it goes on,
// and none between. It holds up the first Prepare only.
func TestStoppedWorkerHasTheLastPlan(t *testing.T) {
	w := newWorld(t, Process, 0, 1, 2)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1, 2)
	w.wait("it has heard all", func() bool { return w.worker(1).State == metrics.WorkerRunning })
	before := w.ordersTo(1)
	w.stop(1)
	w.took("ten Plans", answerWithin+5*time.Second, func() {
		for range 10 {
			w.publish(web, w.listen())
			w.waitForPlan(0, 2)
		}
	})
	w.signal(1, syscall.SIGCONT)
	w.waitForPlan(1)
	w.wait("it has heard all", func() bool {
		s := w.Host.(*supervisor)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.all[1].told.inForce == s.inForce
	})
	// What was under way when it was stopped; then the last listener's descriptors, bind and commit.
	if n := w.ordersTo(1) - before; n > 4 {
		t.Errorf("it was given %d orders", n)
	}
	last := w.listeners[len(w.listeners)-1]
	w.wait("all have connections of the last listener", func() bool {
		w.dial(last)
		return w.accepted(last, 1) > 0
	})
}

// One that turns out not to bind what the others run is ended, and its successors
// too, until there is something that they can.
func TestLateRefusal(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	pid := w.worker(1).PID
	w.stop(1)
	bad := w.listen()
	good := bad.sockets[1]
	bad.sockets[1] = w.mail[0].Send
	w.publish(web, bad)
	w.waitForPlan(0)
	w.signal(1, syscall.SIGCONT)
	w.wait("it ends", func() bool { return ended(pid) })
	w.wait("its successor as well", func() bool { return w.worker(1).Restarts > 1 })
	if !strings.Contains(w.log.String(), "does not take what is in force") {
		t.Error("nothing is said of it")
	}
	bad.sockets[1] = good
	w.publish(web, bad)
	w.waitForPlan(0, 1)
}

func TestSuccessorHasTheNewest(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	w.wait("worker 1 has sessions", func() bool {
		w.dial(web)
		return w.board.Acceptor(1).Sessions.Load() > 0
	})
	w.signal(1, syscall.SIGKILL)
	w.took("a Plan while one is dead", answerWithin, func() { w.publish(web, w.listen()) })
	w.waitForPlan(0, 1)
	if m := w.worker(1); m.Restarts != 1 || m.State != metrics.WorkerRunning && m.State != metrics.WorkerStarting {
		t.Errorf("%+v", m)
	}
	if w.board.Listener(1, web.ID).Closed[metrics.ReasonWorkerDied].Load() == 0 {
		t.Error("no session counts as lost")
	}
	w.wait("the log tells", func() bool {
		log := w.log.String()
		return strings.Contains(log, "worker died") && strings.Contains(log, "signal: killed") && !strings.Contains(log, "lost_sessions=0")
	})
	n := w.accepted(web, 1)
	w.wait("the successor serves", func() bool {
		w.dial(web)
		return w.accepted(web, 1) > n
	})
}

// A worker that dies again and again while Plans come and go ends up with the last.
func TestDeathsAndPlans(t *testing.T) {
	w := newWorld(t, Process, 0, 1, 2)
	web := w.listen()
	w.publish(web)
	for i := range 12 {
		if pid := w.worker(1 + i%2).PID; pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		w.publish(web, w.listen())
	}
	w.publish(web)
	w.waitForPlan(0, 1, 2)
}

// A rescuer serves what waits for a hung sibling, and gives the sockets back. Its
// successor goes on with it, and a listener that comes meanwhile is part of it.
func TestRescue(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	w.stop(1)
	waits := func(l *tested) { // until a client waits behind the stopped one
		w.Helper()
		w.wait("somebody waits", func() bool {
			w.dial(l)
			return Waiting(l.sockets[1:2]) > 0
		})
	}
	served := func(l *tested) {
		w.Helper()
		w.wait("a client that waits is served", func() bool { return Waiting(l.sockets[1:2]) == 0 })
	}
	waits(web)
	if w.has(0, web.sockets[1]) {
		t.Error("worker 0 has worker 1's socket, and was not asked to rescue it")
	}
	w.Rescue(0, 1, true)
	served(web)
	if !w.has(0, web.sockets[1]) {
		t.Error("worker 0 does not have worker 1's socket")
	}

	w.signal(0, syscall.SIGKILL)
	w.wait("a successor", func() bool { return w.worker(0).Restarts == 1 })
	served(web)

	more := w.listen()
	w.publish(web, more)
	w.wait("the rescuer has the new listener's socket", func() bool { return w.has(0, more.sockets[1]) })
	w.dial(more)
	served(more)

	w.publish(web)
	w.wait("it lets go of what has left", func() bool { return !w.has(0, more.sockets[1]) && w.has(0, web.sockets[1]) })

	w.Rescue(0, 1, false)
	w.wait("the sockets are given back", func() bool { return !w.has(0, web.sockets[1]) && !w.has(0, w.mail[1].Receive) })
	waits(web)
	w.signal(1, syscall.SIGCONT)
	served(web)
	w.waitForPlan(0, 1)
}

// A worker has its own sockets, and no other's.
func TestWorkersHaveTheirOwnSockets(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	for seat := range 2 {
		for other := range maxSeats {
			if has := w.has(seat, web.sockets[other]); has != (seat == other) {
				t.Errorf("worker %d has the socket of %d: %v", seat, other, has)
			}
			if has := w.has(seat, w.mail[other].Receive); has != (seat == other) {
				t.Errorf("worker %d has the mailbox of %d: %v", seat, other, has)
			}
			if has := w.has(seat, w.mail[other].Send); has != (other < 2) {
				t.Errorf("worker %d can send to %d: %v", seat, other, has)
			}
		}
	}
}

// A thousand listeners take eight messages of descriptors and more. They are given
// once, and let go when the listeners have left.
func TestManyListeners(t *testing.T) {
	const listeners = 1000
	if n := raiseNoFile(t); n < listeners*(maxSeats+2) {
		t.Skipf("%d descriptors are not enough", n)
	}
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	few := w.descriptors(1)
	for range listeners {
		w.listen()
	}
	before := w.ordersTo(1)
	begin := time.Now()
	w.publish(w.listeners...)
	w.waitForPlan(0, 1)
	w.Logf("%d listeners in two workers after %v", listeners, time.Since(begin))
	if n, want := w.descriptors(1), few+2*listeners; n != want {
		t.Errorf("%d descriptors, want %d", n, want)
	}
	if n := w.ordersTo(1) - before; n > 8+2 { // 2,000 descriptors by 253, bind, commit
		t.Errorf("%d orders", n)
	}
	last := w.listeners[listeners]
	w.wait("the last one serves in both", func() bool {
		w.dial(last).Close()
		return w.accepted(last, 0) > 0 && w.accepted(last, 1) > 0
	})

	before = w.ordersTo(1)
	w.publish(w.listeners...)
	w.waitForPlan(0, 1)
	if n := w.ordersTo(1) - before; n > 2 {
		t.Errorf("%d orders, though nothing is new", n)
	}

	w.publish(web)
	w.waitForPlan(0, 1)
	w.wait("descriptors are let go", func() bool { return w.descriptors(1) == few })
}

// In phase closed a worker lets go of its socket, while its sessions run on.
func TestClosedListenerIsLetGo(t *testing.T) {
	w := newWorld(t, Process, 0)
	web, left := w.listen(), w.listen()
	for _, l := range w.listeners { // the worker's sockets are the whole groups
		for i := 1; i < maxSeats; i++ {
			_ = syscall.Close(l.group.FD(i))
			l.sockets[i] = -1
		}
	}
	w.publish(web, left)
	w.waitForPlan(0)
	w.dial(left)
	w.wait("it has a session, and its backend's descriptor", func() bool {
		c := w.board.Acceptor(0)
		return c.Sessions.Load() == 1 && c.Parked.Load() == 1
	})
	left.Phase = proxy.PhaseClosed
	before := w.descriptors(0)
	w.publish(web, left)
	w.waitForPlan(0)
	w.wait("it closes its socket", func() bool { return w.descriptors(0) == before-1 })
	left.sockets[0] = -1 // closed here, too
	w.publish(web, left)
	w.waitForPlan(0)
	if n := w.board.Acceptor(0).Sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	w.publish(web)
	w.waitForPlan(0)
	w.wait("and its rows", func() bool { return w.descriptors(0) == before-2 })
}

func TestStoppedWorkerDelaysNothingForLong(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.waitForPlan(0, 1)
	pid := w.worker(1).PID
	w.stop(1)
	w.board.Acceptor(1).Hung.Store(1) // known to hang: it is not waited for at all
	w.took("a Plan", time.Second, func() { w.publish(web) })
	w.took("Find", time.Second, func() { w.Find(netip.MustParseAddrPort("127.0.0.1:1")) })
	w.took("Rescue", time.Second, func() { w.Rescue(1, 0, true) })
	w.took("Close", closeWithin+2*time.Second, w.Close)
	if !ended(pid) {
		t.Error("it still runs")
	}
	if err := w.Prepare(w.orders(web)); err == nil {
		t.Error("a closed host takes orders")
	}
}

// Close from another goroutine ends a Prepare that waits.
func TestCloseEndsPrepare(t *testing.T) {
	w := newWorld(t, Process, 0, 1)
	web := w.listen()
	w.publish(web)
	w.wait("worker 1 owes no answer", func() bool { return w.inForceAt(1) == w.generation })
	w.stop(1)
	fault, o := make(chan error), w.orders(web)
	go func() { fault <- w.Prepare(o) }()
	w.wait("worker 0 has bound it", func() bool { return w.boundBy(0) == w.generation })
	go w.Close()
	select {
	case err := <-fault:
		if err != errClosed {
			t.Errorf("%v, want %v", err, errClosed)
		}
	case <-time.After(answerWithin / 2):
		t.Error("it waits on")
	}
}

// boundBy is the generation that a worker has bound last, inForceAt the one that it has
// said to be in force.
func (w *world) boundBy(seat int) uint64 {
	return w.told(seat, func(t *told) *edition { return t.bound })
}

func (w *world) inForceAt(seat int) uint64 {
	return w.told(seat, func(t *told) *edition { return t.inForce })
}

func (w *world) told(seat int, of func(*told) *edition) uint64 {
	s := w.Host.(*supervisor)
	s.mu.Lock()
	defer s.mu.Unlock()
	if wk := s.all[seat]; wk != nil && of(&wk.told) != nil {
		return of(&wk.told).Plan.Generation
	}
	return 0
}
