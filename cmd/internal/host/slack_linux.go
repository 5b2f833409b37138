package host

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A thread of the Go runtime, sysmon, sleeps while nothing runs; woken, it looks around
// every 20 us, some sixty times before it sleeps again, and a connection wakes it. The
// kernel may be late with the timers of a thread that has slack (prctl(2),
// PR_SET_TIMERSLACK), so with much of it these looks are few. A short session, 20 a second,
// two acceptors, on 2 CPUs: 2.2 ms of CPU without, 0.80 with 10 ms, 0.72 with 25, 0.50 with
// 50, 0.55 with 100; nginx 0.39.
//
// All threads have it, and the runtime counts on short sleeps elsewhere, too: it sleeps 3 us
// before it steals what another thread is about to run, and wakes nobody meanwhile; and it is
// sysmon that takes a processor away from what runs for 10 ms. So a loop may wait that long
// for its thread while others work. p99.9 of a ping beside 14 scrapes a second: 5 ms without,
// 11 with 10 ms, 50 with 50 ms; while a worker takes over a Plan of 10,000 backends: 7, 9 to 16,
// 17 to 48.
const slack = 10 * time.Millisecond

// Slacken gives the process its timer slack, before it does anything else.
//
// A thread has the slack of the one that started it, and sysmon is there before main. So
// the program is executed once more, in the same process. Where that fails it goes on as
// it is. Workers have the slack of the thread that forks them.
func Slacken() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now >= int(slack) || setSlack(slack) != nil {
		return
	}
	_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	_ = setSlack(time.Duration(now))
}

func setSlack(d time.Duration) error { return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d), 0, 0, 0) }
