package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// unable ends a test for which this machine lacks something. In CI nothing may be
// lacking.
func unable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// takesLong skips a test that takes ten seconds or more, unless all are asked for, as .ci/run
// does: go test ends a package after ten minutes, and on two busy cores all take longer.
func takesLong(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip("takes long: CI=true runs it")
	}
}

// need finds a program, also where Debian puts servers outside of PATH.
func need(t *testing.T, program, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/lib/postgresql/*/bin/"} {
		if found, _ := filepath.Glob(dir + program); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	unable(t, "%s is not installed (Debian package %s)", program, debianPackage)
	return ""
}

// raced says whether this binary, and so the sluice it starts, has the race detector.
var raced = sync.OnceValue(func() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
})

// freePort finds a port for a server that cannot choose one itself. It lies below
// the ports that the kernel hands out, so no socket gets it by chance meanwhile, and
// no test is given one twice.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		if ln, err := net.Listen("tcp", local(port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

var givenPorts sync.Map

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// output gathers what a program prints while others look.
type output struct {
	ended chan struct{} // closed when a server has ended

	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// server runs a program until the test ends.
func server(t *testing.T, cmd *exec.Cmd) *output {
	t.Helper()
	out := &output{ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // most end by the signal
		close(out.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-out.ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-out.ended
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", cmd, out)
		}
	})
	return out
}

// awaitServer waits until a server takes connections.
func awaitServer(t *testing.T, addr string) {
	t.Helper()
	eventually(t, startWithin, "a server on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// finish runs a program to its end and returns what it printed.
func finish(t *testing.T, within time.Duration, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// relays runs a body against a sluice in front of backend, for each way of relaying
// in each mode, and then looks whether all came to its end.
func relays(t *testing.T, backend string, body func(t *testing.T, s *instance)) {
	modes(t, func(t *testing.T, mode string) { relaysIn(t, mode, []string{"copy", "splice", "auto"}, backend, body) })
}

// relaysServer is relays for a program that takes seconds each time: in process mode with the
// default alone, for the ways do not differ there (TestIntegrity has all of them).
func relaysServer(t *testing.T, backend string, body func(t *testing.T, s *instance)) {
	modes(t, func(t *testing.T, mode string) {
		ways := []string{"copy", "splice", "auto"}
		if mode == "process" {
			ways = ways[2:]
		}
		relaysIn(t, mode, ways, backend, body)
	})
}

func relaysIn(t *testing.T, mode string, ways []string, backend string, body func(t *testing.T, s *instance)) {
	for _, relay := range ways {
		t.Run(relay, func(t *testing.T) {
			s := sluice(t, mode, "--relay", relay, "--listen", "127.0.0.1:0", "--backend", backend)
			body(t, s)
			s.awaitIdle()
			spliced, copied := s.moved(`path="splice"`), s.moved(`path="copy"`)
			if relay == "copy" && spliced > 0 || relay == "splice" && (spliced == 0 || copied > 0) {
				t.Errorf("relay %s spliced %.0f bytes and copied %.0f (%.0f times for want of a pipe)",
					relay, spliced, copied, s.metric("sluice_acceptor_pipe_fallbacks_total"))
			}
			if status := s.stop(); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

// moved is the bytes relayed, both ways.
func (s *instance) moved(labels ...string) float64 {
	s.t.Helper()
	return s.metric("sluice_listener_received_bytes_total", labels...) + s.metric("sluice_listener_sent_bytes_total", labels...)
}

// awaitIdle waits until every session has ended and given back what it held.
func (s *instance) awaitIdle() {
	s.t.Helper()
	held := ""
	defer func() {
		if s.t.Failed() {
			s.t.Log(held)
		}
	}()
	eventually(s.t, stopWithin, "every session ended and gave back all", func() bool {
		accepted := s.metric("sluice_acceptor_accepted_connections_total")
		gone := s.metric("sluice_listener_closed_connections_total") + s.metric("sluice_listener_rejected_connections_total")
		active := s.metric("sluice_acceptor_active_connections")
		picked := s.metric("sluice_backend_active_connections")
		half := s.metric("sluice_listener_half_closed_connections")
		pipes := s.metric("sluice_acceptor_pipes_in_use")
		spill := s.metric("sluice_acceptor_spill_bytes")
		held = fmt.Sprintf("accepted %.0f, closed or rejected %.0f, active %.0f, on backends %.0f, half-closed %.0f, pipes %.0f, spilled %.0f",
			accepted, gone, active, picked, half, pipes, spill)
		return accepted == gone && active == 0 && picked == 0 && half == 0 && pipes == 0 && spill == 0
	})
}

// processes are the ids of the program and of all that it started.
func (s *instance) processes() []int {
	all := []int{s.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, list := range lists {
			b, _ := os.ReadFile(list) // a thread that has ended has none
			for _, pid := range strings.Fields(string(b)) {
				n, _ := strconv.Atoi(pid)
				all = append(all, n)
			}
		}
	}
	return all
}

// descriptors is how many the program holds, over all its processes.
func (s *instance) descriptors() (n int) {
	s.t.Helper()
	for _, pid := range s.processes() {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		n += len(fds)
	}
	return n
}

// pss is the memory of the program in bytes, over all its processes: pages it shares
// with others are divided by their users. The pages of its binary are left out, for
// how many this very test, the same binary, has in memory changes as it runs.
func (s *instance) pss() (sum int) {
	s.t.Helper()
	for _, pid := range s.processes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, part := range []string{"Pss_Anon:", "Pss_Shmem:"} {
			_, rest, _ := strings.Cut(string(b), part)
			var kib int
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				s.t.Fatalf("smaps_rollup: %s %v:\n%s", part, err, b)
			}
			sum += kib << 10
		}
	}
	return sum
}

// cpu is the CPU time the program has used, over all its processes.
func (s *instance) cpu() (sum time.Duration) {
	s.t.Helper()
	const tick = time.Second / 100 // USER_HZ
	for _, pid := range s.processes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		sum += time.Duration(user+system) * tick
	}
	return sum
}
