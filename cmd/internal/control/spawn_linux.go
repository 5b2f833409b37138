package control

import (
	"fmt"
	"math"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice/listener/steering"
	"sluice/proxy"
)

// A worker's descriptors, beside the standard three: nothing else is inherited.
const (
	fdSupervisor = 3 // the protocol; its end is the supervisor's end
	fdBoard      = 4
	fdFirst      = 5 // from here on: see descriptors
)

// descriptors lists what a worker inherits from fdFirst on, in an order that both
// ends know: for each listener every acceptor's socket and the rows, then the mail.
func descriptors(groups []proxy.Group, rows []*steering.Rows, mail proxy.Mail) (fds []int) {
	for i, g := range groups {
		fds = append(append(fds, g.Sockets...), rows[i].FD())
	}
	return append(append(fds, mail.Receive...), mail.Send...)
}

// inherit is the reverse: it takes up the descriptors as the start message says.
func (s *workerStart) inherit() (groups []proxy.Group, mail proxy.Mail, err error) {
	next := fdFirst
	take := func(n int) (fds []int) {
		for range n {
			unix.CloseOnExec(next)
			fds = append(fds, next)
			next++
		}
		return fds
	}
	for i := range s.Plan.Listeners {
		sockets := take(s.Acceptors)
		rows, err := steering.OpenRows(take(1)[0])
		if err != nil {
			return nil, mail, err
		}
		groups = append(groups, groupOf(sockets, rows, s.Picked[i], s.HandOff[i]))
	}
	return groups, proxy.Mail{Receive: take(s.Acceptors), Send: take(s.Acceptors)}, nil
}

// process is a worker process with the supervisor's end of the protocol.
type process struct {
	*os.Process
	conn *workerConn
}

// launch starts the process of acceptor o.ID, which waits for kindStart then.
func (s *supervisor) launch(o *proxy.Options) (*process, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	files := []uintptr{0, 1, 2, uintptr(theirs), uintptr(s.board.FD())}
	for _, fd := range descriptors(o.Groups, s.rows, o.Mail) {
		files = append(files, uintptr(fd))
	}
	started, err := s.reaper.start("/proc/self/exe", []string{"sluice", "worker", strconv.Itoa(o.ID)}, files)
	unix.Close(theirs)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start: %w", err)
	}
	p := &process{Process: started, conn: newWorkerConn(ours, s.notices)}
	go p.endWhenDeaf()
	return p, nil
}

// endWhenDeaf kills a worker that has hung up or makes no sense: it could not be
// told anything any more. Mostly it is dead already.
func (p *process) endWhenDeaf() {
	<-p.conn.gone
	_ = p.Kill()
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
