package proxy

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxEvents a turn: enough to share the cost of a wait, few enough that the
	// last is not late.
	maxEvents = 256
	// pollMillis is how long a turn waits without telling the Go scheduler. While
	// threads go in and out of blocking system calls its sysmon wakes every 20 us,
	// measured at 3 us per short connection. A stop-the-world interrupts this wait by its
	// preemption signal; other goroutines run on the P that control leaves free.
	//
	// It is longer than two kernel ticks (4 ms each at 250 Hz). A shorter wait sets a
	// hardware timer and takes it back each time, and in a virtual machine each of these
	// leaves the machine: with 2 ms 1.05 of nginx's CPU per kept request, with 10 ms 0.89.
	pollMillis = 10
	// yieldEvery is below the 10 ms after which the Go scheduler preempts.
	yieldEvery = 9 * time.Millisecond
	// busyEvents a turn, on average, show a busy loop; a splice counts as one more. With
	// one connection in use it was 1.0 event, with 32 above 3, and that under either
	// scheduling, so it does not swing.
	busyEvents = 2
)

// What an epoll event belongs to stands in its data: Fd holds slot*2+side and Pad
// the session's generation. Or Pad is one of these, and Fd an acceptor's number in
// its upper half and the listener's index in its lower.
const (
	padListener = -1
	padMail     = -2
	padWake     = -3
	genMask     = 1<<31 - 1
)

func (a *Acceptor) openLoop() error {
	var err error
	if a.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if a.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(a.epoll)
		return fmt.Errorf("eventfd: %w", err)
	}
	if errno := a.sys.watch(a.epoll, a.wakeFD, syscall.EpollEvent{Events: epollIn | epollET, Pad: padWake}); errno != 0 {
		a.closeLoop()
		return fmt.Errorf("epoll_ctl eventfd: %w", errno)
	}
	return nil
}

func (a *Acceptor) closeLoop() {
	a.pipes.release()
	a.sys.close(a.epoll)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sys.close(a.wakeFD)
	a.wakeFD = -1 // its number may soon be a client's connection: a late wake must not write there
}

// wake ends a wait; the caller holds mu. An eventfd that is full has woken the loop already.
func (a *Acceptor) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(a.wakeFD, one[:])
}

// Run is the loop. It returns after Close and accepts nothing before StartAccepting.
//
// A loop that is not pinned is not locked to its thread either: the scheduler makes a
// busy one step aside every 10 ms, and to bring a locked goroutine back to its thread
// takes two switches of threads, on a busy machine each behind whoever waits for a CPU.
func (a *Acceptor) Run() {
	if len(a.cpus) > 0 {
		runtime.LockOSThread() // and never unlocked: the thread ends with the loop
		a.cells.ThreadID.Store(int64(unix.Gettid()))
	}
	defer close(a.ended)
	a.pin()
	a.cells.PID.Store(int64(unix.Getpid()))
	a.running = true
	for a.running {
		a.turn()
		a.yield()
	}
	for slot := range a.slab.slots() {
		if s := a.slab.at(slot); s.state != stateFree {
			a.cut(slot, s, reasonOfClose)
		}
	}
	a.open(false)
	a.closeLoop()
	a.cells.ThreadID.Store(0)
}

// pin keeps the loop's thread on its CPUs. Where the machine refuses, the metric says
// "any".
func (a *Acceptor) pin() {
	var set unix.CPUSet
	for _, cpu := range a.cpus {
		set.Set(cpu)
	}
	if len(a.cpus) > 0 && unix.SchedSetaffinity(0, &set) == nil {
		a.cells.CPU.Store(int64(a.cpus[0]) + 1)
	}
}

// yield lets the schedulers see a busy loop now and then, between two turns.
//
// Go's would else stop it, by a signal in the middle of a turn, once it has not been
// seen for 10 ms. A pinned loop takes that signal: to yield would cost it the same two
// switches.
func (a *Acceptor) yield() {
	if a.idle || a.now-a.yielded < int64(yieldEvery) {
		return
	}
	a.yielded = a.now
	if len(a.cpus) == 0 {
		runtime.Gosched()
	}
	a.schedule()
}

// schedule has the kernel schedule a busy loop in batches (SCHED_BATCH, sched(7)): then
// to wake it does not interrupt whoever runs on its CPU. That is often a client or a
// backend on the same machine that is about to send more, and the loop finds all of it
// at once. Not so a loop with one connection in use: it would be answered later.
//
// It is said anew each time, as the goroutine may be in another thread by now. That of
// a pinned loop stays.
func (a *Acceptor) schedule() {
	busy := a.found >= busyEvents*a.turned
	a.found, a.turned = 0, 0
	said := len(a.cpus) > 0 && a.cells.Batched.Load() == truth(busy)
	if a.batches && !said && a.sys.schedule(busy) == 0 {
		a.cells.Batched.Store(truth(busy))
	}
}

// turn is one round of the loop, in the order that matters: first what running
// sessions have to do, then new ones, so that accepting never outruns serving.
func (a *Acceptor) turn() {
	n := a.await()
	a.found, a.turned = a.found+n, a.turned+1
	a.readClock()
	a.ready = a.ready[:0]
	for i := range n {
		a.dispatch(&a.events[i])
	}
	if a.tick != a.wheel.now {
		a.wheel.advance(a.tick, a.expired)
	}
	// Sessions that ask for more while they run wait for the next turn.
	for n := a.runs.n; n > 0; n-- {
		a.step(a.runs.pop(&a.slab))
	}
	a.acceptReady()
	a.runPosted()
	a.show(n < len(a.events))
}

// show tells the others of this turn. Where epoll told all that it watches and a
// queue was not in it, nothing waited there as the turn began.
func (a *Acceptor) show(toldAll bool) {
	a.cells.Turns.Add(1)
	a.cells.Heartbeat.Store(a.now)
	for i := range a.listeners {
		if l := &a.listeners[i]; l.Rows != nil {
			l.Rows[a.id].Beat(a.now, toldAll && !a.paused && !slices.ContainsFunc(a.ready, func(r ready) bool {
				return r.of == a.id && (r.listener == i || r.listener == mailbox)
			}))
		}
	}
}

// open tells steering and siblings whether connections may be sent here.
func (a *Acceptor) open(open bool) {
	a.cells.Accepting.Store(truth(open))
	for _, l := range a.listeners {
		if l.Rows != nil {
			l.Rows[a.id].Open(open)
		}
	}
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// await fills a.events. It polls while there is work, then waits a moment within
// the scheduler's sight, and only then blocks; a tick or the beat ends that.
func (a *Acceptor) await() int {
	if a.runs.n > 0 || a.hasPosted.Load() {
		return a.received(a.sys.poll(a.epoll, a.events, 0))
	}
	if !a.idle {
		if n := a.received(a.sys.poll(a.epoll, a.events, pollMillis)); n > 0 {
			return n
		}
	}
	for {
		ms := -1
		if a.beat > 0 {
			ms = int(a.beat / time.Millisecond)
		}
		if a.wheel.armed > 0 || a.paused {
			ms = int(tickLength / time.Millisecond)
		}
		n := a.received(a.sys.wait(a.epoll, a.events, ms))
		a.idle = n == 0 // a beat or a tick ended it: no work is near, block again at once
		if n > 0 || a.hasPosted.Load() || ms >= 0 {
			return n
		}
	}
}

// received is the number of events of a poll or wait. EINTR, the one error they can
// give here, is none.
func (a *Acceptor) received(n int, errno syscall.Errno) int {
	if errno != 0 {
		return 0
	}
	return n
}

// dispatch notes what an event says. The work is done by step, so that the events
// of both sides of a session are seen together.
func (a *Acceptor) dispatch(ev *syscall.EpollEvent) {
	switch ev.Pad {
	case padListener:
		a.ready = append(a.ready, ready{of: int(ev.Fd >> 16), listener: int(ev.Fd & 0xffff)})
	case padMail:
		a.ready = append(a.ready, ready{of: int(ev.Fd >> 16), listener: mailbox})
	case padWake: // edge-triggered: nothing to read; what was posted runs in this turn
	default:
		slot, sd := ev.Fd>>1, side(ev.Fd&1)
		s := a.slab.at(slot)
		if s.state == stateFree || int32(s.gen) != ev.Pad {
			return // closed earlier in this batch, and perhaps a new session in its slot
		}
		s.ready[sd] |= readinessOf(ev.Events)
		a.runs.push(&a.slab, slot)
	}
}

// watch registers one side of a session once and for all events, edge-triggered.
func (a *Acceptor) watch(slot int32, s *session, sd side) syscall.Errno {
	return a.sys.watch(a.epoll, int(s.fd[sd]), syscall.EpollEvent{
		Events: epollIn | epollPri | epollOut | epollRdhup | uint32(epollET),
		Fd:     slot<<1 | int32(sd), Pad: int32(s.gen),
	})
}

// step gives a session its turn.
func (a *Acceptor) step(slot int32, s *session) {
	switch s.state {
	case stateFree:
		a.slab.put(slot) // it ended while it was queued
	case stateDialing:
		a.dialing(slot, s)
	case stateWaiting:
		if s.ready[client]&(broken|hup) != 0 {
			a.abort(slot, s, client)
		}
	case stateRelaying:
		a.relay(slot, s)
	}
}

// startClock reads CLOCK_MONOTONIC, which other processes and BPF programs read too.
// From then on the runtime's own reading of the same clock is added: it does not
// enter the kernel.
func (a *Acceptor) startClock() {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	a.start, a.base = time.Now(), ts.Nano()
	a.readClock()
}

func (a *Acceptor) readClock() {
	a.now = a.base + int64(time.Since(a.start))
	a.tick = a.tickAt(a.now)
}

// tickAt counts from the acceptor's start, so that the count lasts for 6.8 years of it
// and not of the machine.
func (a *Acceptor) tickAt(clock int64) uint32 { return uint32((clock - a.base) / int64(tickLength)) }
