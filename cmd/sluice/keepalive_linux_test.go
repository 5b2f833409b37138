package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere runs do in the network namespace of a process. What it opens stays there.
func elsewhere(t *testing.T, pid int, do func() error) {
	t.Helper()
	runtime.LockOSThread()
	enter := func(path string) func() {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err) // the thread ends with the test
		}
		return func() {
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				t.Fatal(err)
			}
		}
	}
	back, there := enter("/proc/thread-self/ns/net"), enter(fmt.Sprintf("/proc/%d/ns/net", pid))
	there()
	err := do()
	back() // a thread that ends takes the processes along that it has started, by their Pdeathsig
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
}

// Machines that are gone without a word, a client's and a backend's: their link goes down
// while a session rests. Both end within the bound of their keepalive, one by the
// listener's and one by the pool's, and the side that lives hears of it.
func TestDeadPeers(t *testing.T) {
	inOwnNetwork(t, func(t *testing.T) {
		ip := need(t, "ip", "iproute2")
		keeper := exec.Command("sleep", "300")
		keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := keeper.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = keeper.Process.Kill(); _ = keeper.Wait() }()
		pid := keeper.Process.Pid
		finish(t, patience, ip, "link", "set", "far", "netns", fmt.Sprint(pid))
		elsewhere(t, pid, func() error {
			for _, command := range []string{"addr add 10.77.0.2/16 dev far", "link set far up"} {
				if out, err := exec.Command(ip, strings.Fields(command)...).CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w: %s", command, err, out)
				}
			}
			return nil
		})
		modes(t, func(t *testing.T, mode string) {
			finish(t, patience, ip, "link", "set", "near", "up")
			var far net.Listener
			elsewhere(t, pid, func() (err error) {
				far, err = net.Listen("tcp", "10.77.0.2:0")
				return err
			})
			backend := servePeer(t, far, sendBack)
			const soon = "keepalive = \"1s\"\nkeepalive_interval = \"1s\"\nkeepalive_count = 2"
			s := startChanging(t, mode, acceptorsTable(2, "auto")+listenerAt("near", "10.77.0.1:0", "near", soon)+listenerAt("far", "10.77.0.1:0", "far", `keepalive = "0s"`)+
				poolOf("near", []string{echoing(t).addr}, `keepalive = "0s"`)+poolOf("far", []string{backend.addr}, soon))
			var client *net.TCPConn
			elsewhere(t, pid, func() error {
				c, err := net.DialTimeout("tcp", s.addrs["near"], patience)
				if err == nil {
					client = c.(*net.TCPConn)
				}
				return err
			})
			defer client.Close()
			held := dial(t, s.addrs["far"])
			if !talks(client) || !talks(held) {
				t.Fatal("no sessions")
			}

			// Options are set a while after the start, see proxy.tuneAfter.
			eventually(t, patience, "the backend is probed", func() bool {
				return strings.Contains(finish(t, patience, need(t, "ss", "iproute2"), "-tnoH", "state", "established", "dst", backend.addr), "keepalive")
			})
			finish(t, patience, ip, "link", "set", "near", "down")
			gone := time.Now()
			if err := held.SetReadDeadline(gone.Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := held.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
				t.Errorf("the client of the dead backend is told %v", err)
			}
			eventually(t, patience, "both sessions have ended", func() bool { return s.sessions() == 0 })
			t.Logf("both ended within %v", time.Since(gone))
			for listener, reason := range map[string]string{"near": "client_reset", "far": "backend_reset"} {
				if n := s.metric("sluice_listener_closed_connections_total", fmt.Sprintf("listener=%q", listener), fmt.Sprintf("reason=%q", reason)); n != 1 {
					t.Errorf("listener %s: %v ended as %s, want 1", listener, n, reason)
				}
			}
		})
	})
}
