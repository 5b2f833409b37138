package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	shortConnections  = 200
	callsPerShort     = 16 // accept4, socket, setsockopt, connect, 2 epoll_ctl, 4 read, 2 sendto, shutdown, 2 close, and one to spare
	bulkSize          = 256 << 20
	spliceCallsPerMiB = 16 // a copy through 64 KiB takes twice as many
)

// A short connection (connect, a request, a response, both ends close) costs few
// system calls.
func TestCallsOfShortConnections(t *testing.T) {
	if raced() {
		t.Skip("-race: its runtime makes calls of its own")
	}
	modes(t, func(t *testing.T, mode string) {
		ln := listen(t)
		go echo(ln)
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", ln.Addr().String(), "--pin-cpus") // else a loop may change its thread
		// The Go runtime's calls (futex, rt_sigreturn) are counted, too. They come by time,
		// so a busy machine only adds to them: the best of three rounds tells.
		for round := 1; ; round++ {
			calls := s.trace(func() {
				for range shortConnections {
					short(t, s.addr())
				}
				s.awaitIdle()
			})
			n := 0
			for _, k := range calls {
				n += k
			}
			t.Log(callTable(calls, shortConnections, "a connection"))
			if calls["accept4"] < shortConnections || calls["connect"] < shortConnections {
				t.Fatalf("the trace misses connections: %v", calls)
			}
			each := float64(n) / shortConnections
			if each <= callsPerShort {
				return
			}
			if round == 3 {
				t.Fatalf("%.1f system calls a connection, at most %d expected", each, callsPerShort)
			}
		}
	})
}

// short is one short connection.
func short(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	request, response := []byte("a request"), make([]byte, 9)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, response); err != nil || !bytes.Equal(request, response) {
		t.Fatalf("response %q: %v", response, err)
	}
}

// A stream goes through splice(2) without being asked to, and in large pieces.
func TestCallsOfStream(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		ln := listen(t)
		s := sluice(t, mode, "--listen", "127.0.0.1:0", "--backend", ln.Addr().String(), "--pin-cpus") // else a loop may change its thread
		calls := s.trace(func() {
			ends := connect(t, s.addr(), ln)
			if err := exchange(ends, [2]transfer{{1, bulkSize, 1 << 20}, {2, 1, 1}}); err != nil {
				t.Fatal(err)
			}
			ends[0].Close()
			ends[1].Close()
			s.awaitIdle()
		})
		const mib = bulkSize >> 20
		t.Log(callTable(calls, mib, "a MiB"))
		if each := float64(calls["splice"]) / mib; each == 0 || each > spliceCallsPerMiB {
			t.Errorf("%.1f calls of splice a MiB, 1 to %d expected", each, spliceCallsPerMiB)
		}
		if spliced := s.moved(`path="splice"`); spliced < bulkSize*9/10 {
			t.Errorf("%.0f bytes of %d were spliced", spliced, bulkSize)
		}
	})
}

// trace runs f and returns the system calls that the acceptors made meanwhile, epoll
// waits aside. Other threads (the admin endpoint, the Go runtime) are not counted.
func (s *instance) trace(f func()) (calls map[string]int) {
	s.t.Helper()
	strace := need(s.t, "strace", "strace")
	log := filepath.Join(s.t.TempDir(), "strace")
	args := []string{"-f", "-qq", "-e", "trace=!epoll_wait,epoll_pwait", "-e", "signal=none", "-o", log}
	for _, pid := range s.processes() {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	tracer := exec.Command(strace, args...)
	tracer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var diagnosis output
	tracer.Stderr = &diagnosis
	if err := tracer.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = tracer.Wait() // by the signal
		close(ended)
	}()
	stop := func() {
		_ = tracer.Process.Signal(syscall.SIGINT) // detaches
		select {
		case <-ended:
		case <-time.After(5 * time.Second): // it waits for a tracee that has crashed
			_ = tracer.Process.Kill()
			<-ended
		}
	}
	defer stop()
	acceptors := s.status().Acceptors
	eventually(s.t, startWithin, "strace has attached to every acceptor", func() bool {
		select {
		case <-ended:
			unable(s.t, "strace may not attach here (needs CAP_SYS_PTRACE or ptrace_scope 0): %s", diagnosis.String())
		default:
		}
		for _, a := range acceptors {
			if !traced(a.PID, a.ThreadID) {
				return false
			}
		}
		return true
	})
	f()
	stop()

	b, err := os.ReadFile(log)
	if err != nil {
		s.t.Fatal(err)
	}
	calls = map[string]int{}
	call := regexp.MustCompile(`^(\d+) +(\w+)\(`) // not "<... resumed>", the second line of an interrupted one
	for line := range strings.Lines(string(b)) {
		if m := call.FindStringSubmatch(line); m != nil {
			tid, _ := strconv.ParseInt(m[1], 10, 64)
			for _, a := range acceptors {
				if a.ThreadID == tid {
					calls[m[2]]++
				}
			}
		}
	}
	return calls
}

// traced says whether a thread has a tracer.
func traced(pid, tid int64) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	_, rest, found := strings.Cut(string(b), "TracerPid:")
	var tracer int
	_, err := fmt.Sscan(rest, &tracer)
	return found && err == nil && tracer != 0
}

func callTable(calls map[string]int, per int, unit string) string {
	var b strings.Builder
	names := slices.SortedFunc(maps.Keys(calls), func(x, y string) int { return cmp.Compare(calls[y], calls[x]) })
	sum := 0
	for _, name := range names {
		fmt.Fprintf(&b, "\n%-20s %8d %8.2f", name, calls[name], float64(calls[name])/float64(per))
		sum += calls[name]
	}
	return fmt.Sprintf("system calls, and calls %s%s\n%-20s %8d %8.2f", unit, b.String(), "all", sum, float64(sum)/float64(per))
}
