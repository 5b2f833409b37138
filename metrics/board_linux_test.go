package metrics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The environment variable that makes the test binary a worker (see workerMain).
const workerEnv = "SLUICE_TEST_BOARD_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := workerMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// workerMain is a worker with one acceptor. It inherits the board as descriptor
// 3, counts, says so on stdout and lives until stdin ends.
func workerMain() error {
	b, err := OpenBoard(3)
	if err != nil {
		return err
	}
	web := b.Listener(1, webID)
	b.Acceptor(1).PID.Store(int64(os.Getpid()))
	web.Accepted.Add(5)
	web.Active.Add(3)
	web.Closed[ReasonClientEOF].Add(2)
	fmt.Println("counted")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestBoardBetweenProcesses(t *testing.T) {
	b := newBoard(t)
	b.OpenListener(webID)
	web, self := b.Listener(1, webID), b.Acceptor(1)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	board := os.NewFile(uintptr(dup(t, b.FD())), "board")
	defer board.Close()
	worker := exec.CommandContext(ctx, os.Args[0])
	worker.Env = append(os.Environ(), workerEnv+"=1")
	worker.ExtraFiles = []*os.File{board}
	worker.Stderr = os.Stderr
	stdin, err := worker.StdinPipe()
	check(t, err)
	defer stdin.Close()
	stdout, err := worker.StdoutPipe()
	check(t, err)
	check(t, worker.Start())

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "counted\n" {
		t.Errorf("worker said %q (%v)", line, err)
	}
	if web.Accepted.Load() != 5 || web.Active.Load() != 3 || self.PID.Load() != int64(worker.Process.Pid) {
		t.Errorf("read accepted %d, active %d, pid %d; the worker %d wrote 5, 3 and its own",
			web.Accepted.Load(), web.Active.Load(), self.PID.Load(), worker.Process.Pid)
	}

	check(t, worker.Process.Kill())
	if err := worker.Wait(); err == nil {
		t.Error("a killed worker ended well")
	}
	if lost := b.GiveBack(1); lost[webID] != 3 {
		t.Errorf("lost %v, want 3 on web", lost)
	}
	if web.Accepted.Load() != total(web.Closed[:]) || web.Active.Load() != 0 || self.PID.Load() != 0 {
		t.Errorf("afterwards accepted %d, closed %d, active %d, pid %d",
			web.Accepted.Load(), total(web.Closed[:]), web.Active.Load(), self.PID.Load())
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	check(t, err)
	return d
}

// dupUntilEnd is for a descriptor that is not taken over.
func dupUntilEnd(t *testing.T, fd int) int {
	t.Helper()
	d := dup(t, fd)
	t.Cleanup(func() { unix.Close(d) })
	return d
}

// tempFile is a sparse memory file that is no board; it closes with the test.
func tempFile(t *testing.T, size int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("no-board", unix.MFD_CLOEXEC)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.Ftruncate(fd, size))
	return fd
}

func truncate(fd int, size int64) error { return unix.Ftruncate(fd, size) }

func allocatedBytes(t *testing.T, fd int) int64 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Fstat(fd, &st))
	return st.Blocks * 512 // stat(2): blocks of 512 bytes, whatever the page size
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(fds)
}
