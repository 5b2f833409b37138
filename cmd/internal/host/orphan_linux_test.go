package host

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A worker whose supervisor dies accepts what has come, lets its sessions end, and
// ends with the last; its socket is closed before.
func TestOrphansDrain(t *testing.T) {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go hold(backend, nil)
	child := exec.Command("/proc/self/exe", "supervise", backend.Addr().String())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t}
	var addr string
	var pids [2]int
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &addr, &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		// What a terminal sends to all of a process group ends no worker.
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			_ = syscall.Kill(pid, sig)
		}
	}
	var clients []net.Conn
	for range 20 { // none of which one worker alone has all
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	w.wait("the port is closed", func() bool {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err == nil {
			c.Close()
			return false
		}
		return isRefused(err)
	})
	for _, c := range clients {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Errorf("a session has ended: %v", err)
		}
	}
	for _, pid := range pids {
		if ended(pid) {
			t.Error("a worker has ended before its sessions")
		}
	}
	for _, c := range clients {
		c.Close()
	}
	for _, pid := range pids {
		w.wait("a worker ends with its sessions", func() bool { return ended(pid) })
	}
}

func isRefused(err error) bool {
	op, ok := err.(*net.OpError)
	return ok && os.NewSyscallError("connect", syscall.ECONNREFUSED).Error() == op.Err.Error()
}

// supervise is the supervisor that dies.
func supervise() {
	w := newWorld(lonely{}, Process, 0, 1)
	w.target = netip.MustParseAddrPort(os.Args[2])
	web := w.listen()
	for i := 2; i < maxSeats; i++ { // every socket of the group has a worker
		_ = syscall.Close(web.group.FD(i))
		web.sockets[i] = -1
	}
	w.publish(web)
	w.waitForPlan(0, 1)
	fmt.Println(web.group.Addr(), w.worker(0).PID, w.worker(1).PID)
	select {}
}

// lonely is what a world needs of a test, in a process of its own.
type lonely struct{ testing.TB }

func (lonely) Helper()        {}
func (lonely) Cleanup(func()) {}
func (lonely) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}
func (l lonely) Fatalf(format string, args ...any) { l.Fatal(fmt.Sprintf(format, args...)) }
