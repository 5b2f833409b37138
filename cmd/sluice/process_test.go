package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// kill sends a signal to a process.
func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid == 0 || pid == -1 {
		t.Fatalf("process %d: the signal would go to the group of this test, or to all", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("kill %d %v: %v", pid, sig, err)
	}
}

// freeze stops a process; it goes on at the end of the test, if it is still there.
func freeze(t *testing.T, pid int) {
	t.Helper()
	kill(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// awaitWorkers waits until all workers run, and returns them.
func (s *instance) awaitWorkers() (ws []metrics.Worker) {
	s.t.Helper()
	eventually(s.t, startWithin, "all workers run", func() bool {
		ws = s.status().Workers
		for _, w := range ws {
			if w.State != metrics.WorkerRunning {
				return false
			}
		}
		return true
	})
	return ws
}

// heldBy is the sessions that an acceptor holds.
func (s *instance) heldBy(acceptor int) int {
	s.t.Helper()
	return int(s.metric("sluice_acceptor_active_connections", fmt.Sprintf(`acceptor="%d"`, acceptor)))
}

// died is the sessions that ended with their worker.
func (s *instance) died() int {
	s.t.Helper()
	return int(s.metric("sluice_listener_closed_connections_total", `reason="worker_died"`))
}

// talks says whether a session still echoes.
func talks(c net.Conn) bool {
	if _, err := c.Write([]byte{'x'}); err != nil {
		return false
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return err == nil
}

func TestWorkerStartedByHand(t *testing.T) {
	s := launch(t, nil, "worker", "0")
	if status := s.wait(stopWithin); status != exitFault || !strings.Contains(s.logged(), "not started by a supervisor") {
		t.Errorf("exit status %d: %s", status, s.logged())
	}
}

// A worker has what it needs: not the sockets of others, not the admin port, and nothing that the supervisor
// happened to be started with.
func TestWorkerDescriptors(t *testing.T) {
	stray, err := os.Create(filepath.Join(t.TempDir(), "stray"))
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	s := launch(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{stray} },
		"run", "--mode", "process", "--admin", "127.0.0.1:0", "--log-format", "json", "--acceptors", "2",
		"--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	s.awaitReady()
	ws := s.awaitWorkers()
	if n := count(t, s.cmd.Process.Pid, stray.Name()); n != 1 {
		t.Fatalf("the supervisor has the stray file %d times, want once", n)
	}
	admin, public := listening(t, s.admin), listening(t, s.addr())
	if n := count(t, s.cmd.Process.Pid, admin...); n != 1 {
		t.Fatalf("the supervisor has the admin port %d times, want once", n)
	}
	for _, w := range ws {
		if n := count(t, w.PID, stray.Name()); n != 0 {
			t.Errorf("worker %d has the stray file", w.Number)
		}
		if n := count(t, w.PID, admin...); n != 0 {
			t.Errorf("worker %d has the admin port", w.Number)
		}
		if n := count(t, w.PID, public...); n != 1 {
			t.Errorf("worker %d has %d sockets of the group, want its own", w.Number, n)
		}
	}
}

// count is how many descriptors of a process are one of the given files.
func count(t *testing.T, pid int, files ...string) (n int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("descriptors of %d: %v", pid, err)
	}
	for _, link := range links {
		is, _ := os.Readlink(link) // one that was closed meanwhile is none of them
		for _, file := range files {
			if is == file {
				n++
			}
		}
	}
	return n
}

func openFDs(t *testing.T, pid int) int {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("descriptors of %d: %v", pid, err)
	}
	return len(links)
}

// listening names the sockets that listen on an IPv4 address as /proc/PID/fd does.
func listening(t *testing.T, addr string) (names []string) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const listen = "0A"
	local := kernelAddr(t, addr)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[1] == local && f[3] == listen {
			names = append(names, "socket:["+f[9]+"]")
		}
	}
	return names
}

// With every worker stopped there is still an answer, hardly later than else.
func TestStoppedWorkersDelayNoScrape(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "4", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	quickest := func() time.Duration {
		least := time.Hour
		for range 5 {
			begin := time.Now()
			s.get("/metrics")
			least = min(least, time.Since(begin))
		}
		return least
	}
	normal := quickest()
	for _, w := range s.awaitWorkers() {
		freeze(t, w.PID)
	}
	stopped := quickest()
	t.Logf("a scrape takes %v, with stopped workers %v", normal, stopped)
	if stopped > normal+200*time.Millisecond {
		t.Error("too late")
	}
}

// A stopped worker holds up the end of the service for a bounded time only, and the
// sessions it held are accounted for.
func TestEndWithAStoppedWorker(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "2", "--drain-timeout", "300ms", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	var clients []net.Conn
	for s.heldBy(0) == 0 {
		c := dial(t, s.addr())
		talks(c)
		clients = append(clients, c)
	}
	ran := s.heldBy(0)
	freeze(t, s.awaitWorkers()[0].PID)
	s.signal(syscall.SIGTERM)
	if status := s.wait(stopWithin); status != exitFault {
		t.Errorf("exit status %d, want %d: sessions were cut", status, exitFault)
	}
	for _, c := range clients {
		if talks(c) {
			t.Error("a session outlives the service")
		}
	}
	s.tells(fmt.Sprintf(`"how":"signal: killed","lost_sessions":%d}`, ran), func(n int) bool { return n > 0 })
}

// Without their supervisor, workers serve what they have to its end and hold the
// port no longer.
func TestSupervisorKilled(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "3", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	var clients []*net.TCPConn
	for range 30 {
		c := dial(t, s.addr())
		if !talks(c) {
			t.Fatal("a new session does not talk")
		}
		clients = append(clients, c)
	}
	ws := s.awaitWorkers()
	s.signal(syscall.SIGKILL)
	eventually(t, patience, "nobody listens", func() bool { return refuses(s.addr()) })
	for _, c := range clients {
		if !talks(c) {
			t.Error("a running session was dropped")
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		expectEnd(t, c)
	}
	for _, w := range ws {
		eventually(t, patience, "the worker ends", func() bool { return ended(w.PID) })
	}
}

// ended says whether a process has ended; it may still have to be waited for.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// A signal to the whole process group, as a terminal sends it, acts once.
func TestSignalToTheGroup(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		s := launch(t, func(cmd *exec.Cmd) { cmd.SysProcAttr.Setpgid = true },
			"run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json",
			"--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		s.awaitReady()
		c := dial(t, s.addr())
		if !talks(c) {
			t.Fatal("a new session does not talk")
		}
		kill(t, -s.cmd.Process.Pid, syscall.SIGINT)
		eventually(t, patience, "nobody listens", func() bool { return refuses(s.addr()) })
		if !talks(c) {
			t.Error("the session was not let end")
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expectEnd(t, c)
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d", status)
		}
		if strings.Contains(s.logged(), `"level":"ERROR"`) {
			t.Error("the log tells of an error")
		}
	})
}

// As PID 1 of a container sluice waits for orphans that it did not start, and keeps
// its own workers apart from them.
func TestPID1ReapsOrphans(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a PID namespace takes root")
	}
	modes(t, func(t *testing.T, mode string) {
		const orphans = 20
		held, hold, err := os.Pipe() // the orphans live until its other end is closed
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		s := launch(t, func(cmd *exec.Cmd) {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
			cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
			cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(
				`mount -t proc proc /proc && for i in $(seq %d); do (cat <&3 &); done && exec "$0" "$@" 3<&-`, orphans)}, cmd.Args...)
			cmd.Path, cmd.ExtraFiles = "/bin/sh", []*os.File{held}
		}, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "--acceptors", "2",
			"--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
		held.Close()
		s.awaitReady()
		workers := 0
		if mode == "process" {
			workers = 2
		}
		if n := len(s.processes()) - 1; n != workers+orphans {
			t.Fatalf("PID 1 has %d children, want %d workers and %d orphans", n, workers, orphans)
		}
		hold.Close()
		eventually(t, patience, "all orphans are waited for", func() bool { return len(s.processes())-1 == workers })
		if mode == "process" {
			kill(t, s.processes()[1], syscall.SIGKILL)
			eventually(t, patience, "the worker's end is known", func() bool {
				return strings.Contains(s.logged(), `"how":"signal: killed"`)
			})
			s.awaitWorkers()
		}
		if status := s.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// Memory of a worker at rest: pages that it shares with its siblings are divided.
func TestWorkerMemory(t *testing.T) {
	if raced() {
		t.Skip("-race: its shadow memory would be measured")
	}
	s := sluice(t, "process", "--acceptors", "4", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	const most = 8 << 20
	for _, w := range s.awaitWorkers() {
		bytes := proportional(t, w.PID)
		t.Logf("worker %d at rest: %.1f MiB PSS", w.Number, float64(bytes)/(1<<20))
		if bytes > most {
			t.Errorf("worker %d: %d bytes, at most %d expected", w.Number, bytes, most)
		}
	}
}

func proportional(t *testing.T, pid int) (bytes int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nPss:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatalf("smaps_rollup: %v:\n%s", err, b)
	}
	return bytes << 10
}
