package proxy

import (
	"fmt"
	"math"
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
	// pollMillis is how long a busy loop waits without telling the Go scheduler. While
	// threads go in and out of blocking system calls its sysmon wakes every 20 us,
	// measured at 3 us per short connection. A stop-the-world interrupts this wait by its
	// preemption signal; other goroutines run on the P that control leaves free.
	//
	// A loop that is not busy is better seen to wait: its sysmon can go back to sleep, and
	// meets it in a turn, which it would stop by a signal, less often.
	//
	// It is longer than two kernel ticks (4 ms each at 250 Hz). A shorter wait sets a
	// hardware timer and takes it back each time, and in a virtual machine each of these
	// leaves the machine: with 2 ms 1.05 of nginx's CPU per kept request, with 10 ms 0.89.
	pollMillis = 10
	// streamTime is what streams have of a turn, all together: one or two of them move
	// their turnBytes, and epoll is asked again. So what an interactive client waits, and
	// a new one, does not grow with the number of streams.
	streamTime = 500 * time.Microsecond
)

// What an epoll event belongs to stands in its data: Fd holds slot*2+side and Pad
// the session's generation. Or Pad is one of these, and Fd an acceptor's number in
// its upper half and the listener's index in its lower; of a probe its slot in the lower
// six bits and the slot's uses above.
const (
	padListener = -1
	padMail     = -2
	padWake     = -3
	padProbe    = -4
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
	if errno := a.sys.Watch(a.epoll, a.wakeFD, syscall.EpollEvent{Events: epollIn | epollET, Pad: padWake}); errno != 0 {
		a.closeLoop()
		return fmt.Errorf("epoll_ctl eventfd: %w", errno)
	}
	return nil
}

func (a *Acceptor) closeLoop() {
	a.pipes.release()
	a.sys.Close(a.epoll)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sys.Close(a.wakeFD)
	a.wakeFD = -1 // its number may soon be a client's connection: a late wake must not write there
}

// Run is the loop. It returns after Close and accepts nothing before it is given a Plan.
//
// A loop that is not pinned is not locked to its thread either: the scheduler makes a
// busy one step aside every 10 ms, and to bring a locked goroutine back to its thread
// takes two switches of threads, on a busy machine each behind other threads that wait
// for a CPU.
func (a *Acceptor) Run() {
	if len(a.CPUs) > 0 {
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
			a.end(slot, s, cutFor(reasonOfClose))
		}
	}
	a.Journal.Flush()
	a.open(false)
	a.endProbes()
	a.closeLoop()
	a.cells.ThreadID.Store(0)
}

// turn is one round of the loop, in the order that matters: first sessions that ask for
// a little, then new ones, so that accepting never outruns serving, and streams last.
func (a *Acceptor) turn() {
	n := a.await()
	a.found, a.turned = a.found+n, a.turned+1
	a.lookWanted()
	a.ready = a.ready[:0]
	for i := range n {
		a.dispatch(&a.events[i])
	}
	// Sessions that ask for more while they run wait for the next turn, on either list.
	streams := a.streams.n
	for n := a.runs.n; n > 0; n-- {
		a.step(a.runs.pop(&a.slab))
	}
	a.advance(n < len(a.events))
	a.probeDue()
	a.runPosted()
	a.acceptReady()
	a.runStreams(streams)
	a.serveLines()
	a.sweepSome()
	a.surveySome()
	a.beat(n < len(a.events))
	a.Journal.Flush()
	a.cells.Turns.Add(1)
}

// maxBehind is how many turns deadlines may wait for epoll to have told all. With maxEvents
// each these are 32,768 events, a good part of what a full loop finds after a stop.
const maxBehind = 128

// advance judges deadlines, after what epoll has told was read. Where it has more to tell,
// as after a loop was stopped for a while, a session may have moved without the loop
// knowing.
func (a *Acceptor) advance(toldAll bool) {
	if a.tick == a.wheel.now {
		return
	}
	if a.behind++; toldAll || a.behind > maxBehind {
		a.behind = 0
		a.wheel.advance(a.tick, a.expired)
	}
}

// runStreams gives the first n streams their turns, as far as the time goes.
func (a *Acceptor) runStreams(n int) {
	if n == 0 {
		return
	}
	begun := a.clockNow()
	for ; n > 0; n-- {
		a.step(a.streams.pop(&a.slab))
		if a.clockNow()-begun > int64(streamTime) {
			return
		}
	}
}

// enqueue puts a session on the list of its kind.
func (a *Acceptor) enqueue(slot int32, s *session) {
	if s.half[toBackend].streaming || s.half[toClient].streaming {
		a.streams.push(&a.slab, slot)
	} else {
		a.runs.push(&a.slab, slot)
	}
}

// settle has beat look at the listener's row until no pick is in flight there.
func (a *Acceptor) settle(l *listener) {
	if !l.settling && l.Rows != nil {
		l.settling = true
		a.settling = append(a.settling, l)
	}
}

// beat tells the rows of this turn, where something came or is on its way. Where epoll
// told all that it watches and a queue was not in it, nothing waited there as the turn
// began.
func (a *Acceptor) beat(toldAll bool) {
	for _, r := range a.ready {
		if l := a.listenerAt(r.listener); r.of == a.Seat && l != nil {
			a.settle(l)
		}
	}
	kept := a.settling[:0]
	for _, l := range a.settling {
		waits := slices.ContainsFunc(a.ready, func(r ready) bool {
			return r.of == a.Seat && (r.listener == int(l.ID.Index()) || r.listener == mailbox)
		})
		if inFlight := l.Rows[a.Seat].Beat(a.now, toldAll && !a.paused && !waits); inFlight || waits {
			kept = append(kept, l)
		} else {
			l.settling = false
		}
	}
	a.settling = kept
}

// open tells steering and siblings whether connections may be sent here.
func (a *Acceptor) open(open bool) {
	any := false
	for _, l := range a.bound.listeners {
		takes := open && l.phase == PhaseServing
		any = any || takes
		if l.Rows != nil {
			l.Rows[a.Seat].Open(takes)
		}
	}
	a.cells.Accepting.Store(truth(any))
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// await fills a.events, and shows that a turn begins.
func (a *Acceptor) await() int {
	n, parked := a.wait()
	a.readClock()
	a.cells.Heartbeat.Store(a.now)
	if parked {
		a.cells.Parked.Store(0) // after the heartbeat: an acceptor that is not parked has a recent one
	}
	return n
}

// wait polls while there is work. A busy loop without work waits a moment out of the
// scheduler's sight; then, and any other loop at once, it blocks: until an event, or until
// something falls due. A loop that blocks is parked, and owes no turn.
func (a *Acceptor) wait() (n int, parked bool) {
	if a.runs.n+a.streams.n > 0 || a.hasPosted.Load() || a.sweep.active() || len(a.surveys) > 0 || a.lines.due {
		return a.received(a.sys.Poll(a.epoll, a.events, 0)), false
	}
	ms := a.untilDue()
	if a.busy {
		first := pollMillis
		if ms >= 0 {
			first = min(first, ms)
		}
		if n := a.received(a.sys.Poll(a.epoll, a.events, first)); n > 0 || ms == first {
			return n, false
		}
		if ms >= 0 {
			ms -= first
		}
		a.busy = false
	}
	a.cells.Parked.Store(1)
	return a.received(a.sys.Wait(a.epoll, a.events, ms)), true
}

// settleMillis is how often a loop looks at picks that are in flight: they are forgiven
// after two looks more than 0.25 s apart.
const settleMillis = 150

// untilDue is how many milliseconds the loop may wait; -1 = for as long as it takes.
func (a *Acceptor) untilDue() (ms int) {
	ms = -1
	sooner := func(in int64) {
		if in = max(in, 0); ms < 0 || in < int64(ms) {
			ms = int(in)
		}
	}
	if tick, ok := a.wheel.next(); ok {
		sooner((a.base+int64(tick)*int64(tickLength)-a.now)/int64(time.Millisecond) + 1)
	}
	if a.paused {
		// Not sooner than a tick: the wheel wakes sessions that lack a descriptor.
		sooner(max((a.resumeAt-a.now)/int64(time.Millisecond)+1, int64(tickLength/time.Millisecond)))
	}
	if len(a.settling) > 0 {
		sooner(settleMillis)
	}
	if a.probes.due != math.MaxInt64 {
		sooner((a.probes.due-a.now)/int64(time.Millisecond) + 1)
	}
	return ms
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
	case padProbe:
		a.probeTold(ev)
	case padWake: // edge-triggered: nothing to read; what was posted runs in this turn
	default:
		slot, sd := ev.Fd>>1, side(ev.Fd&1)
		s := a.slab.at(slot)
		if s.state == stateFree || int32(s.gen) != ev.Pad {
			return // closed earlier in this batch, and perhaps a new session in its slot
		}
		s.ready[sd] |= readinessOf(ev.Events)
		a.enqueue(slot, s)
	}
}

// watch registers one side of a session once and for all events, edge-triggered.
func (a *Acceptor) watch(slot int32, s *session, sd side) syscall.Errno {
	return a.sys.Watch(a.epoll, int(s.fd[sd]), syscall.EpollEvent{
		Events: epollIn | epollPri | epollOut | epollRdhup | uint32(epollET),
		Fd:     slot<<1 | int32(sd), Pad: int32(s.gen),
	})
}

// step gives a session its turn.
func (a *Acceptor) step(slot int32, s *session) {
	switch s.state {
	case stateFree:
		a.slab.put(slot) // it ended while it was queued
	case statePreamble:
		a.carryOn(slot, s, a.preamble(slot, s))
	case stateDialing:
		a.carryOn(slot, s, a.dialing(slot, s))
	case stateUpgrading:
		a.carryOn(slot, s, a.upgrading(slot, s))
	case stateWaiting:
		if e, left := a.left(s); left {
			a.end(slot, s, e)
		} else if a.openings.of(s).called {
			a.carryOn(slot, s, a.unbar(slot, s))
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
	a.now = a.clockNow()
	a.tick = a.tickAt(a.now)
}

func (c *clock) clockNow() int64 { return c.base + int64(time.Since(c.start)) }

// tickAt counts from the acceptor's start, so that the count lasts for 6.8 years of it
// and not of the machine.
func (a *Acceptor) tickAt(clock int64) uint32 { return uint32((clock - a.base) / int64(tickLength)) }
