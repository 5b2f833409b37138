package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may let this process's timers go off, so that it can
// wake for several at once: prctl(2), PR_SET_TIMERSLACK. Deadlines of sessions are 50 ms
// coarse.
const timerSlack = 10 * time.Millisecond

// slacken gives the process timerSlack.
//
// It is for a thread of the Go runtime, sysmon. That sleeps while nothing runs; woken, it
// looks around every 20 us, some sixty times before it sleeps again, and a connection
// wakes it. With slack these looks are few: one short session a while cost 0.7 ms of CPU
// and not 2.2, and nginx 0.4 (two acceptors, 20 sessions a second, measured on 2 CPUs).
//
// A thread has the slack of the one that started it, and sysmon is there before main. So
// the program is executed once more, in the same process; workers inherit it. Where that
// fails it goes on as it is.
func slacken() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now >= int(timerSlack) {
		return
	}
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // back to what it was
}
