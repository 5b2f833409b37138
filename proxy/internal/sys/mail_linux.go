package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fdMessage is a datagram with a label and one descriptor, or none. It points into
// itself, so each acceptor allocates one for good.
type fdMessage struct {
	label   uint64
	iov     unix.Iovec
	control struct { // CMSG_SPACE of one descriptor
		head unix.Cmsghdr
		fd   int32
		_    int32
	}
	head unix.Msghdr
}

func newFDMessage() *fdMessage {
	m := new(fdMessage)
	m.iov = unix.Iovec{Base: (*byte)(unsafe.Pointer(&m.label)), Len: 8}
	m.head = unix.Msghdr{Iov: &m.iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&m.control))}
	return m
}

func (m *fdMessage) send(mail int, label uint64, fd int) syscall.Errno {
	m.label = label
	m.control.head = unix.Cmsghdr{Len: uint64(unsafe.Offsetof(m.control.fd) + 4), Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS}
	m.control.fd = int32(fd)
	m.head.Controllen = uint64(unsafe.Sizeof(m.control))
	if fd < 0 {
		m.head.Controllen = 0
	}
	_, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(mail), uintptr(unsafe.Pointer(&m.head)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return e
}

// receive returns fd -1 for a message without a descriptor, and for one whose descriptor
// could not be installed: that connection is lost.
func (m *fdMessage) receive(mail int) (label uint64, fd int, errno syscall.Errno) {
	m.control.head = unix.Cmsghdr{}
	m.head.Controllen, m.head.Flags = uint64(unsafe.Sizeof(m.control)), 0
	n, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(mail), uintptr(unsafe.Pointer(&m.head)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if e != 0 {
		return 0, -1, e
	}
	if n == 0 { // no acceptor can send any more
		return 0, -1, syscall.EAGAIN
	}
	if m.control.head.Type != unix.SCM_RIGHTS {
		return m.label, -1, 0
	}
	return m.label, int(m.control.fd), 0
}
