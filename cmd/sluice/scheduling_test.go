package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A busy acceptor is scheduled in batches, one with a single client at work is not,
// and a service that wants neither has neither.
func TestScheduling(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		start := func(scheduling string) *instance {
			return sluice(t, mode, "--scheduling", scheduling, "--acceptors", "1", "--listen", "127.0.0.1:0", "--backend", backend)
		}
		t.Run("batch", func(t *testing.T) {
			s := start("batch")
			stop := keepBusy(t, s.addr(), 64)
			eventually(t, patience, "the busy acceptor is batched", func() bool { return s.metric("sluice_acceptor_batched") == 1 && s.policies()[unix.SCHED_BATCH] > 0 })
			stop()
			keepBusy(t, s.addr(), 1)
			eventually(t, patience, "it no longer is", func() bool { return s.metric("sluice_acceptor_batched") == 0 })
		})
		t.Run("normal", func(t *testing.T) {
			s := start("normal")
			keepBusy(t, s.addr(), 64)
			s.turnsWithout(t, "a batched acceptor", func() bool { return s.metric("sluice_acceptor_batched") > 0 || s.policies()[unix.SCHED_BATCH] > 0 })
		})
		t.Run("chosen by the user", func(t *testing.T) {
			var s *instance
			scheduled(t, unix.SCHED_BATCH, func() { s = start("batch") })
			keepBusy(t, s.addr(), 1)
			s.turnsWithout(t, "a thread that is scheduled otherwise", func() bool { return s.policies()[unix.SCHED_NORMAL] > 0 })
		})
	})
}

// turnsWithout watches an acceptor for some thousand turns.
func (s *instance) turnsWithout(t *testing.T, what string, seen func() bool) {
	t.Helper()
	eventually(t, patience, "the acceptor turns", func() bool {
		if seen() {
			t.Fatal("there is " + what)
		}
		return s.metric("sluice_acceptor_turns_total") > 5000
	})
}

// keepBusy has so many clients talk without a pause until stop, or the test's end.
func keepBusy(t *testing.T, addr string, clients int) (stop func()) {
	t.Helper()
	var all []net.Conn
	for range clients {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		go func() {
			for talks(c) {
			}
		}()
	}
	stop = func() {
		for _, c := range all {
			c.Close()
		}
	}
	t.Cleanup(stop)
	return stop
}

// scheduled runs f in a thread of another policy, which what it starts inherits.
func scheduled(t *testing.T, policy uint32, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := *was
	other.Policy = policy
	if err := unix.SchedSetAttr(0, &other, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetAttr(0, was, 0)
	f()
}

// policies counts the threads of the acceptor's process by their scheduling.
func (s *instance) policies() map[int]int {
	const policy = 41 - 3 // of /proc/PID/stat, counted from behind the name
	threads := map[int]int{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.status().Acceptors[0].PID))
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil { // else it has ended
			_, rest, _ := strings.Cut(string(b), ") ")
			p, _ := strconv.Atoi(strings.Fields(rest)[policy])
			threads[p]++
		}
	}
	return threads
}
