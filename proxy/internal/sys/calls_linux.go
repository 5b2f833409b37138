// Package sys holds the system calls of an acceptor's loop.
//
//	loop ──► Calls ──► Linux()                     the kernel
//	           └─────► with one field replaced     a fault, in a test
//
// They are functions in a struct and not methods behind an interface: a test replaces
// one and keeps the others.
package sys

import (
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls is the outside world of one acceptor: every system call it makes, so that
// a test can put a failing one in its place. An errno of 0 is success.
//
// All but wait go through RawSyscall: the descriptors are non-blocking, the calls
// short, and the scheduler need not hear of them.
type Calls struct {
	Accept    func(fd int) (int, syscall.Errno)
	Age       func(fd int) time.Duration      // since the handshake ended; of a socket that has sent nothing yet. -1 = it can't be told
	Enter     func(network int) syscall.Errno // this thread goes over to a network namespace: sockets are made there
	Socket    func(family int, multipath bool) (int, syscall.Errno)
	Bind      func(fd int, a netip.Addr) syscall.Errno
	BindPort  func(fd int, a netip.AddrPort) syscall.Errno // a port that connections to elsewhere may have, too
	BindAs    func(fd int, a netip.Addr) syscall.Errno     // Bind for an address that need not be this machine's
	Connect   func(fd int, a netip.AddrPort) syscall.Errno
	SourceTo  func(a netip.AddrPort) netip.Addr // what a connection there would come from; the zero Addr = there is none, or no way
	HoldAck   func(fd int)                      // the handshake's last ACK waits a moment: a socket that is reset before has not been seen by the server
	SockError func(fd int) syscall.Errno
	LocalAddr func(fd int) netip.AddrPort // the zero one when there is none
	PeerAddr  func(fd int) netip.AddrPort // the same
	Read      func(fd int, p []byte) (int, syscall.Errno)
	Peek      func(fd int, p []byte) (int, syscall.Errno) // Read, and the bytes stay
	Write     func(fd int, p []byte) (int, syscall.Errno)
	Splice    func(from, to, n int) (int, syscall.Errno)
	ReadPipe  func(fd int, p []byte) (int, syscall.Errno)
	Shutdown  func(fd int) syscall.Errno // the sending side
	Unsent    func(fd int) (int, syscall.Errno)
	Unread    func(fd int) (int, syscall.Errno)            // bytes; a FIN is none
	Prepare   func(fd, family int, e *Early) syscall.Errno // before connect; an errno: it must not be connected
	SetBuffer func(fd, size int)                           // of both directions; before connect, so that the window fits
	Tune      func(fd int, t Tuning)                       // what it refuses stays as it is: the connection is as good
	LowUnsent func(fd int)                                 // from now on it takes little more than the network does
	Close     func(fd int) syscall.Errno
	Reset     func(fd int) syscall.Errno // close with a RST
	Vanish    func(fd int) syscall.Errno // close without a word to the peer, as far as may be
	SendFD    func(mail int, label uint64, fd int) syscall.Errno
	ReceiveFD func(mail int) (label uint64, fd int, errno syscall.Errno) // fd -1: it could not be installed
	Pipe      func(size int) (r, w, capacity int, errno syscall.Errno)
	Watch     func(epoll, fd int, ev syscall.EpollEvent) syscall.Errno // by value: a pointer would be allocated
	Unwatch   func(epoll, fd int) syscall.Errno
	Schedule  func(batch bool) syscall.Errno                                         // this thread, as SCHED_BATCH or SCHED_NORMAL; its nice value stays
	Poll      func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) // keeps the scheduler's P
	Wait      func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) // gives it up: for long waits

	// Moved is how many bytes came over a TCP connection in its life, and how many its peer has
	// acknowledged, a FIN counting as one; 0 where it can't be told.
	Moved func(fd int) (received, acknowledged uint64)
}

// Linux are the true ones.
func Linux() Calls {
	mail := newFDMessage()
	return Calls{
		Accept: func(fd int) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
			return int(n), e
		},
		Age:      sysAge,
		Enter:    sysEnter,
		Socket:   sysSocket,
		Bind:     sysBind,
		BindPort: sysBindPort,
		BindAs:   sysBindAs,
		Connect:  sysConnect,
		SourceTo: sysSourceTo,
		HoldAck:  func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) },
		SockError: func(fd int) syscall.Errno {
			v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err != nil {
				return err.(syscall.Errno)
			}
			return syscall.Errno(v)
		},
		LocalAddr: func(fd int) netip.AddrPort { return sysAddr(unix.SYS_GETSOCKNAME, fd) },
		PeerAddr:  func(fd int) netip.AddrPort { return sysAddr(unix.SYS_GETPEERNAME, fd) },
		Read: func(fd int, p []byte) (int, syscall.Errno) {
			// recvfrom rather than read: a shorter way through the kernel.
			n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
			return int(n), e
		},
		Peek: func(fd int, p []byte) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_PEEK, 0, 0)
			return int(n), e
		},
		Write: func(fd int, p []byte) (int, syscall.Errno) {
			// sendto rather than write: MSG_NOSIGNAL, so that SIGPIPE never comes.
			n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
			return int(n), e
		},
		Splice: func(from, to, n int) (int, syscall.Errno) {
			// No SPLICE_F_MORE: it corks the last segment for 200 ms.
			r, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK)
			return int(r), e
		},
		ReadPipe: func(fd int, p []byte) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
			return int(n), e
		},
		Shutdown: func(fd int) syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
			return e
		},
		Unsent: func(fd int) (int, syscall.Errno) {
			n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			if err != nil {
				return 0, err.(syscall.Errno)
			}
			return n, 0
		},
		Unread: func(fd int) (int, syscall.Errno) {
			n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
			if err != nil {
				return 0, err.(syscall.Errno)
			}
			return n, 0
		},
		Moved:     sysMoved,
		Prepare:   sysPrepare,
		SetBuffer: sysSetBuffer,
		Tune:      sysTune,
		LowUnsent: func(fd int) { setInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent) },
		Close:     sysClose,
		Reset: func(fd int) syscall.Errno {
			// Linger for zero seconds: what close(2) then sends is a RST.
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			return sysClose(fd)
		},
		Vanish:    sysVanish,
		SendFD:    mail.send,
		ReceiveFD: mail.receive,
		Pipe:      sysPipe,
		Watch: func(epoll, fd int, ev syscall.EpollEvent) syscall.Errno {
			_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
			return e
		},
		Unwatch: func(epoll, fd int) syscall.Errno {
			_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0)
			return e
		},
		Schedule: func(batch bool) syscall.Errno {
			policy, priority := uintptr(unix.SCHED_NORMAL), int32(0)
			if batch {
				policy = unix.SCHED_BATCH
			}
			_, _, e := syscall.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
			return e
		},
		Poll: func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), uintptr(ms), 0, 0)
			return int(n), e
		},
		Wait: func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) {
			n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), uintptr(ms), 0, 0)
			return int(n), e
		},
	}
}

// LeaveFrom makes the process look out of descriptors once limit is reached. The kernel
// gives the lowest that is free, so a number from limit on tells that limit are open.
//
// Accepted connections are not refused: the first that cannot be dialed stops
// accepting, so each acceptor goes one beyond the limit.
func (s *Calls) LeaveFrom(limit int) {
	socket, pipe := s.Socket, s.Pipe
	s.Socket = func(family int, multipath bool) (int, syscall.Errno) {
		fd, errno := socket(family, multipath)
		if errno == 0 && fd >= limit {
			s.Close(fd)
			return -1, syscall.EMFILE
		}
		return fd, errno
	}
	s.Pipe = func(size int) (r, w, capacity int, errno syscall.Errno) {
		r, w, capacity, errno = pipe(size)
		if errno == 0 && max(r, w) >= limit {
			s.Close(r)
			s.Close(w)
			return -1, -1, 0, syscall.EMFILE
		}
		return r, w, capacity, errno
	}
}

func sysClose(fd int) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return e
}

// sysPipe makes a pipe of size bytes, or of as many as this user may have: above
// fs.pipe-user-pages-soft the kernel gives two pages and refuses to grow them.
func sysPipe(size int) (r, w, capacity int, errno syscall.Errno) {
	var p [2]int32
	_, _, e := syscall.RawSyscall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&p)), unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if e != 0 {
		return -1, -1, 0, e
	}
	n, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p[0]), unix.F_SETPIPE_SZ, uintptr(size))
	if e != 0 {
		n, _, e = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p[0]), unix.F_GETPIPE_SZ, 0)
	}
	return int(p[0]), int(p[1]), int(n), e
}
