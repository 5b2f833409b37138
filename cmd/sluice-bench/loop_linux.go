package main

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop waits for many sockets in one thread: a level-triggered epoll. The goroutine that uses it is locked to its thread.
// Its calls are raw ones: they never block but in the slow path of wait, so the Go scheduler need not hear of them.
type loop struct {
	epoll  int
	events [256]unix.EpollEvent
	ready  []event
	buf    []byte // one for all reads
}

// event is one socket that has something to do. A failed socket is readable too: the read gives the reason.
type event struct {
	fd                 int
	readable, writable bool
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	return &loop{epoll: fd, buf: make([]byte, readSize)}, nil
}

// wait returns the sockets that are ready, none when limit has passed or a signal came. It waits the first milliseconds without
// telling the Go scheduler, which would otherwise wake its monitor thread for each short wait and take CPU from what is measured.
func (l *loop) wait(limit time.Duration) ([]event, error) {
	const quietMillis = 5
	millis := uintptr((limit + time.Millisecond - 1) / time.Millisecond) // rounded up: what is due at limit must be due then
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events)), uintptr(len(l.events)), min(millis, quietMillis), 0, 0)
	if errno == 0 && n == 0 && millis > quietMillis {
		rest := millis - quietMillis
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events)), uintptr(len(l.events)), rest, 0, 0)
	}
	if errno != 0 && errno != unix.EINTR {
		return nil, fmt.Errorf("epoll_wait: %w", errno)
	}
	l.ready = l.ready[:0]
	if errno == unix.EINTR {
		return l.ready, nil
	}
	for _, e := range l.events[:n] {
		l.ready = append(l.ready, event{
			fd:       int(e.Fd),
			readable: e.Events&^unix.EPOLLOUT != 0,
			writable: e.Events&unix.EPOLLOUT != 0,
		})
	}
	return l.ready, nil
}

// watch begins to watch a socket for reading, and for writing if asked.
func (l *loop) watch(fd int, write bool) error {
	return l.control(unix.EPOLL_CTL_ADD, fd, interest(write))
}

// rewatch changes whether a watched socket is watched for writing too.
func (l *loop) rewatch(fd int, write bool) error {
	return l.control(unix.EPOLL_CTL_MOD, fd, interest(write))
}

// watchListener watches a listening socket that several loops share: a connection wakes one of them.
func (l *loop) watchListener(fd int) error {
	return l.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

func (l *loop) unwatch(fd int) error { return l.control(unix.EPOLL_CTL_DEL, fd, 0) }

func (l *loop) control(op, fd int, events uint32) error {
	if err := unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func interest(write bool) uint32 {
	if write {
		return unix.EPOLLIN | unix.EPOLLOUT
	}
	return unix.EPOLLIN
}

// readSocket returns again when nothing waits, and n == 0 without again at the end of the stream.
func readSocket(fd int, p []byte) (n int, again bool, err error) {
	r, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return outcome("read", r, errno)
}

// writeSocket returns again when the socket takes nothing now, or is not connected yet.
func writeSocket(fd int, p []byte) (n int, again bool, err error) {
	r, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return outcome("write", r, errno)
}

func outcome(step string, r uintptr, errno unix.Errno) (n int, again bool, err error) {
	switch errno {
	case 0:
		return int(r), false, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, true, nil
	default:
		return 0, false, fmt.Errorf("%s: %w", step, errno)
	}
}

// dialSocket begins a connection. It is established when the socket is writable; a failure shows as an event and in the next read.
func dialSocket(from netip.Addr, to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// The port is chosen by connect: then only the whole four-tuple must be free, not the port by itself.
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, fmt.Errorf("connect %v: %w", to, err)
	}
	return fd, nil
}

// listenSocket listens on a port of its own choice of 127.0.0.1, or of all addresses.
func listenSocket(everywhere bool) (fd int, at netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, at, fmt.Errorf("socket: %w", err)
	}
	var name unix.Sockaddr
	home := [4]byte{127, 0, 0, 1}
	own := unix.SockaddrInet4{Addr: home}
	if everywhere {
		own.Addr = [4]byte{}
	}
	err = unix.Bind(fd, &own)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // accepted sockets inherit it
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, at, fmt.Errorf("listen: %w", err)
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4(home), uint16(name.(*unix.SockaddrInet4).Port)), nil
}

// dropPackets puts a filter on a listening socket that lets nothing pass. Sockets that it has accepted are as they were.
func dropPackets(listener int) error {
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if err := unix.SetsockoptSockFprog(listener, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}); err != nil {
		return fmt.Errorf("drop packets: %w", err)
	}
	return nil
}

// endListening has a listening socket refuse. It is not closed: so no other gets its port.
func endListening(listener int) error {
	if err := unix.Shutdown(listener, unix.SHUT_RD); err != nil {
		return fmt.Errorf("end listening: %w", err)
	}
	return nil
}

// acceptSocket returns again when no connection waits, or the one that did is gone.
func acceptSocket(listener int) (fd int, again bool, err error) {
	fd, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		return fd, false, nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		return -1, true, nil
	default:
		return -1, false, fmt.Errorf("accept: %w", err)
	}
}

func closeSocket(fd int) { unix.Close(fd) }

// resetSocket closes with a reset, so that the other side sees a failure and not an end.
func resetSocket(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}
