package proxy

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sys is the outside world of one acceptor: every system call it makes, so that
// a test can put a failing one in its place. An errno of 0 is success.
//
// All but wait go through RawSyscall: the descriptors are non-blocking, the calls
// short, and the scheduler need not hear of them.
type sys struct {
	accept    func(fd int) (int, syscall.Errno)
	age       func(fd int) time.Duration // since the handshake ended; of a socket that has sent nothing yet
	socket    func(family int) (int, syscall.Errno)
	bind      func(fd int, a netip.Addr) syscall.Errno
	connect   func(fd int, a netip.AddrPort) syscall.Errno
	sockError func(fd int) syscall.Errno
	localAddr func(fd int) netip.AddrPort // the zero one when there is none
	peerAddr  func(fd int) netip.AddrPort // the same
	read      func(fd int, p []byte) (int, syscall.Errno)
	write     func(fd int, p []byte) (int, syscall.Errno)
	splice    func(from, to, n int) (int, syscall.Errno)
	shutdown  func(fd int) syscall.Errno // the sending side
	unsent    func(fd int) (int, syscall.Errno)
	close     func(fd int) syscall.Errno
	reset     func(fd int) syscall.Errno // close with a RST
	sendFD    func(mail, listener, fd int) syscall.Errno
	receiveFD func(mail int) (listener, fd int, errno syscall.Errno)
	pipe      func(size int) (r, w, capacity int, errno syscall.Errno)
	watch     func(epoll, fd int, ev syscall.EpollEvent) syscall.Errno // by value: a pointer would be allocated
	unwatch   func(epoll, fd int) syscall.Errno
	schedule  func(batch bool) syscall.Errno                                         // this thread, as SCHED_BATCH or SCHED_NORMAL; its nice value stays
	poll      func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) // keeps the scheduler's P
	wait      func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) // gives it up: for long waits
}

func linux() sys {
	mail := newFDMessage()
	return sys{
		accept: func(fd int) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
			return int(n), e
		},
		age:     sysAge,
		socket:  sysSocket,
		bind:    sysBind,
		connect: sysConnect,
		sockError: func(fd int) syscall.Errno {
			v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err != nil {
				return err.(syscall.Errno)
			}
			return syscall.Errno(v)
		},
		localAddr: func(fd int) netip.AddrPort { return sysAddr(unix.SYS_GETSOCKNAME, fd) },
		peerAddr:  func(fd int) netip.AddrPort { return sysAddr(unix.SYS_GETPEERNAME, fd) },
		read: func(fd int, p []byte) (int, syscall.Errno) {
			// recvfrom rather than read: a shorter way through the kernel.
			n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
			return int(n), e
		},
		write: func(fd int, p []byte) (int, syscall.Errno) {
			// sendto rather than write: MSG_NOSIGNAL, so that SIGPIPE never comes.
			n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
			return int(n), e
		},
		splice: func(from, to, n int) (int, syscall.Errno) {
			// No SPLICE_F_MORE: it corks the last segment for 200 ms.
			r, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK)
			return int(r), e
		},
		shutdown: func(fd int) syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
			return e
		},
		unsent: func(fd int) (int, syscall.Errno) {
			n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			if err != nil {
				return 0, err.(syscall.Errno)
			}
			return n, 0
		},
		close: sysClose,
		reset: func(fd int) syscall.Errno {
			// Linger for zero seconds: what close(2) then sends is a RST.
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			return sysClose(fd)
		},
		sendFD:    mail.send,
		receiveFD: mail.receive,
		pipe:      sysPipe,
		watch: func(epoll, fd int, ev syscall.EpollEvent) syscall.Errno {
			_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
			return e
		},
		unwatch: func(epoll, fd int) syscall.Errno {
			_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0)
			return e
		},
		schedule: func(batch bool) syscall.Errno {
			policy, priority := uintptr(unix.SCHED_NORMAL), int32(0)
			if batch {
				policy = unix.SCHED_BATCH
			}
			_, _, e := syscall.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
			return e
		},
		poll: func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) {
			n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), uintptr(ms), 0, 0)
			return int(n), e
		},
		wait: func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) {
			n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), uintptr(ms), 0, 0)
			return int(n), e
		},
	}
}

// leaveFrom makes the process look out of descriptors once limit is reached. The kernel
// gives the lowest that is free, so a number from limit on tells that limit are open.
//
// Accepted connections are not refused: the first that cannot be dialed stops
// accepting, so each acceptor goes one beyond the limit.
func (s *sys) leaveFrom(limit int) {
	socket, pipe := s.socket, s.pipe
	s.socket = func(family int) (int, syscall.Errno) {
		fd, errno := socket(family)
		if errno == 0 && fd >= limit {
			s.close(fd)
			return -1, syscall.EMFILE
		}
		return fd, errno
	}
	s.pipe = func(size int) (r, w, capacity int, errno syscall.Errno) {
		r, w, capacity, errno = pipe(size)
		if errno == 0 && max(r, w) >= limit {
			s.close(r)
			s.close(w)
			return -1, -1, 0, syscall.EMFILE
		}
		return r, w, capacity, errno
	}
}

func sysClose(fd int) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return e
}

// sysAge reads tcpi_last_data_sent. The kernel starts that clock when the handshake
// ends (tcp_create_openreq_child), so before the first byte is sent it is the socket's
// age, in milliseconds and as coarse as a jiffy.
func sysAge(fd int) time.Duration {
	const lastDataSent = 44 // offset in struct tcp_info
	var info [lastDataSent + 4]byte
	n := uint32(len(info))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 || n < uint32(len(info)) {
		return 0
	}
	return time.Duration(binary.NativeEndian.Uint32(info[lastDataSent:])) * time.Millisecond
}

// sysSocket makes a backend socket with Nagle's algorithm off: sluice writes what
// it was given as soon as it was given it, and must not wait for an ACK.
func sysSocket(family int) (int, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return -1, e
	}
	on := int32(1)
	syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&on)), 4, 0)
	return int(fd), 0
}

// sysBind gives fd a source address and leaves the port to connect(2), which then
// needs it to be free towards one destination only (IP_BIND_ADDRESS_NO_PORT).
func sysBind(fd int, a netip.Addr) syscall.Errno {
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err.(syscall.Errno)
	}
	var sa sockaddr
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), sa.set(netip.AddrPortFrom(a, 0)))
	return e
}

func sysConnect(fd int, a netip.AddrPort) syscall.Errno {
	var sa sockaddr
	n := sa.set(a)
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), n)
	return e
}

// sockaddr is room for either family's address as the kernel wants it.
type sockaddr unix.RawSockaddrInet6

// set writes a into sa and returns its length.
func (sa *sockaddr) set(a netip.AddrPort) uintptr {
	port := a.Port()<<8 | a.Port()>>8 // network order; both supported machines are little-endian
	if ip := a.Addr().Unmap(); ip.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: ip.As4()}
		return unix.SizeofSockaddrInet4
	}
	*sa = sockaddr{Family: unix.AF_INET6, Port: port, Addr: a.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

// get is the address that the kernel wrote into sa; IPv4 in IPv6's clothes comes out
// as IPv4.
func (sa *sockaddr) get() netip.AddrPort {
	port := sa.Port<<8 | sa.Port>>8
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// sysAddr asks for one of a socket's addresses: trap is SYS_GETSOCKNAME or SYS_GETPEERNAME.
func sysAddr(trap uintptr, fd int) netip.AddrPort {
	var sa sockaddr // stays unspecified if the call fails
	n := uint32(unsafe.Sizeof(sa))
	syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n)))
	return sa.get()
}

// familyOf is the socket family that reaches a.
func familyOf(a netip.AddrPort) int {
	if a.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// fdMessage is a datagram with a listener's index and one descriptor. It points into
// itself, so each acceptor allocates one for good.
type fdMessage struct {
	listener uint32
	iov      unix.Iovec
	control  struct { // CMSG_SPACE of one descriptor
		head unix.Cmsghdr
		fd   int32
		_    int32
	}
	head unix.Msghdr
}

func newFDMessage() *fdMessage {
	m := new(fdMessage)
	m.iov = unix.Iovec{Base: (*byte)(unsafe.Pointer(&m.listener)), Len: 4}
	m.head = unix.Msghdr{Iov: &m.iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&m.control))}
	return m
}

func (m *fdMessage) send(mail, listener, fd int) syscall.Errno {
	m.listener = uint32(listener)
	m.control.head = unix.Cmsghdr{Len: uint64(unsafe.Offsetof(m.control.fd) + 4), Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS}
	m.control.fd = int32(fd)
	m.head.Controllen = uint64(unsafe.Sizeof(m.control))
	_, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(mail), uintptr(unsafe.Pointer(&m.head)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return e
}

// receive returns fd -1 for a message whose descriptor could not be installed: that
// connection is lost.
func (m *fdMessage) receive(mail int) (listener, fd int, errno syscall.Errno) {
	m.control.head = unix.Cmsghdr{}
	m.head.Controllen, m.head.Flags = uint64(unsafe.Sizeof(m.control)), 0
	_, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(mail), uintptr(unsafe.Pointer(&m.head)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if e != 0 {
		return 0, -1, e
	}
	if m.control.head.Type != unix.SCM_RIGHTS {
		return int(m.listener), -1, 0
	}
	return int(m.listener), int(m.control.fd), 0
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
