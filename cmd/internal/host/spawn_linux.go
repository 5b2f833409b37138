package host

import (
	"fmt"
	"math"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A worker's descriptors, beside the standard three. All others come with orders.
const (
	fdSupervisor = 3 // the protocol; its end is the supervisor's end
	fdBoard      = 4
	fdJournal    = 5
	fdBell       = 6 // of the journal
)

// process is a worker process with the supervisor's end of the protocol.
type process struct {
	*os.Process
	conn *workerConn
}

// launch starts the process of a seat, which waits for kindStart then.
func (s *supervisor) launch(seat int) (*process, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	files := []uintptr{0, 1, 2, uintptr(theirs), uintptr(s.Board.FD()), uintptr(s.Journal.FD()), uintptr(s.Journal.Bell())}
	started, err := s.reaper.start("/proc/self/exe", []string{"sluice", "worker", strconv.Itoa(seat)}, files)
	unix.Close(theirs)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start: %w", err)
	}
	return &process{Process: started, conn: newWorkerConn(ours, seat, s.Notices, s.surveys.add)}, nil
}

// keepDescriptors makes those that this process was started with end here. All that
// it opens itself is close-on-exec anyway.
func keepDescriptors() {
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // needs Linux 5.11, and is a courtesy
}

// socketpair returns our end as a connection and the worker's as a descriptor.
func socketpair() (ours net.Conn, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), "worker")
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		unix.Close(fds[1])
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	return ours, fds[1], nil
}
