package journal

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bell is an eventfd that all writers ring and the reader waits for.

func newBell() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	return fd, nil
}

// checkBell says whether a writer may write there without waiting.
func checkBell(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("bell on descriptor %d: fcntl: %w", fd, err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		return fmt.Errorf("bell on descriptor %d: it may block", fd)
	}
	unix.CloseOnExec(fd)
	return nil
}

// openBell is the reader's end: a wait on it takes no thread.
func openBell(fd int) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bell: dup: %w", err)
	}
	return os.NewFile(uintptr(own), "bell"), nil
}

// strike rings it. It can't block; one that is full has rung already.
func strike(fd int) {
	one := uint64(1)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8)
}

func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
