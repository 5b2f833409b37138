package proxy

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// yieldEvery is below the 10 ms after which the Go scheduler preempts.
	yieldEvery = 9 * time.Millisecond
	// fewTurns say little of how busy a loop is.
	fewTurns = 16
	// busyEvents a turn, on average, show a busy loop; a splice counts as one more. With
	// one connection in use it was 1.0 event, with 32 above 3, and that under either
	// scheduling, so it does not swing.
	busyEvents = 2
)

// pin keeps the loop's thread on its CPUs. Where the machine refuses, the metric says
// "any".
func (a *Acceptor) pin() {
	var set unix.CPUSet
	for _, cpu := range a.CPUs {
		set.Set(cpu)
	}
	if len(a.CPUs) > 0 && unix.SchedSetaffinity(0, &set) == nil {
		a.cells.CPU.Store(int64(a.CPUs[0]) + 1)
	}
}

// yield lets the schedulers see the loop now and then, between two turns.
//
// Go's sees one that is not busy whenever that waits. It would stop a busy one, by a
// signal in the middle of a turn, once it has not been seen for 10 ms. A pinned loop takes
// that signal: to yield would cost it the same two switches.
func (a *Acceptor) yield() {
	if a.now-a.yielded < int64(yieldEvery) || !a.busy && a.turned < fewTurns {
		return
	}
	if a.busy && len(a.CPUs) == 0 {
		runtime.Gosched()
	}
	a.busy = a.found >= busyEvents*a.turned
	a.yielded, a.found, a.turned = a.now, 0, 0
	a.schedule()
}

// schedule has the kernel schedule a busy loop in batches (SCHED_BATCH, sched(7)): then
// waking it does not interrupt what runs on its CPU. That is often a client or a
// backend on the same machine that is about to send more, and the loop finds all of it
// at once. A loop with one connection in use is not: it would be answered later.
//
// This is set anew each time, as the goroutine may be in another thread by now. That
// of a pinned loop stays.
func (a *Acceptor) schedule() {
	said := len(a.CPUs) > 0 && a.cells.Batched.Load() == truth(a.busy)
	if a.Batch && !said && a.sys.Schedule(a.busy) == 0 {
		a.cells.Batched.Store(truth(a.busy))
	}
}
