package sys

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysSocket makes a backend socket with Nagle's algorithm off: sluice writes what
// it was given as soon as it was given it, and must not wait for an ACK. Multipath TCP
// means nothing to a unix socket.
func sysSocket(family int, multipath bool) (int, syscall.Errno) {
	protocol := uintptr(unix.IPPROTO_TCP)
	switch {
	case family == unix.AF_UNIX:
		protocol = 0
	case multipath:
		protocol = unix.IPPROTO_MPTCP
	}
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if e != 0 {
		return -1, e
	}
	if family == unix.AF_UNIX {
		return int(fd), 0
	}
	on := int32(1)
	syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&on)), 4, 0)
	return int(fd), 0
}

// sysEnter takes this thread, and no other, to the network namespace of a descriptor.
func sysEnter(network int) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(network), unix.CLONE_NEWNET, 0)
	return e
}

// sysBind gives fd a source address and leaves the port to connect(2), which then
// needs it to be free towards one destination only (IP_BIND_ADDRESS_NO_PORT).
//
// connect(2) takes ports of one parity first, and looks at all of them before it takes one
// of the other: so each connection beyond half of the range costs 0.5 ms. A socket with a
// range of its own has no such preference (IP_LOCAL_PORT_RANGE, Linux 6.3); the kernel cuts
// this one to net.ipv4.ip_local_port_range.
func sysBind(fd int, a netip.Addr) syscall.Errno {
	const anyPort = 65535<<16 | 1
	setInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, anyPort)
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err.(syscall.Errno)
	}
	return bindTo(fd, netip.AddrPortFrom(a, 0))
}

// sysBindPort gives fd a source address and port, which all that ask so may have at the
// same time (SO_REUSEADDR): connect(2) says whether the target has it.
func sysBindPort(fd int, a netip.AddrPort) syscall.Errno {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err.(syscall.Errno)
	}
	return bindTo(fd, a)
}

// sysBindAs is sysBind for an address of another machine (IP_TRANSPARENT), which takes
// CAP_NET_ADMIN or CAP_NET_RAW.
func sysBindAs(fd int, a netip.Addr) syscall.Errno {
	level, name := unix.SOL_IP, unix.IP_TRANSPARENT
	if a.Is6() {
		level, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if errno := setInt(fd, level, name, 1); errno != 0 {
		return errno
	}
	return sysBind(fd, a)
}

func bindTo(fd int, a netip.AddrPort) syscall.Errno {
	var sa Sockaddr
	n := sa.Set(a)
	if e := sa.setScope(fd, a.Addr().Zone()); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), n)
	return e
}

func sysConnect(fd int, a netip.AddrPort) syscall.Errno {
	if path, is := UnixPath(a.Addr()); is {
		return connectUnix(fd, path)
	}
	var sa Sockaddr
	n := sa.Set(a)
	if e := sa.setScope(fd, a.Addr().Zone()); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), n)
	return e
}

// sysSourceTo lets a datagram socket that sends nothing find the way: a lack of ports
// does not concern it. An address of this machine is its own source, but in 127.0.0.0/8.
func sysSourceTo(a netip.AddrPort) netip.Addr {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(FamilyOf(a)), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return netip.Addr{}
	}
	defer sysClose(int(fd))
	if e := sysConnect(int(fd), a); e != 0 {
		return netip.Addr{}
	}
	return sysAddr(unix.SYS_GETSOCKNAME, int(fd)).Addr()
}

// Sockaddr is room for either family's address as the kernel wants it.
type Sockaddr unix.RawSockaddrInet6

// Set writes a into sa, without its zone, and returns its length.
func (sa *Sockaddr) Set(a netip.AddrPort) uintptr {
	port := a.Port()<<8 | a.Port()>>8 // network order; both supported machines are little-endian
	if ip := a.Addr().Unmap(); ip.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: ip.As4()}
		return unix.SizeofSockaddrInet4
	}
	*sa = Sockaddr{Family: unix.AF_INET6, Port: port, Addr: a.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

// setScope sets the interface that a zone names; "" = none is meant. It is looked up each
// time, which is one more system call for an address with a zone: an interface may come
// later, or come again under another number. ENODEV: there is none.
func (sa *Sockaddr) setScope(fd int, zone string) syscall.Errno {
	if zone == "" || sa.Family != unix.AF_INET6 {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil && n > 0 {
		sa.Scope_id = uint32(n)
		return 0
	}
	var req struct { // struct ifreq
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	if len(zone) >= len(req.name) {
		return syscall.ENODEV
	}
	copy(req.name[:], zone)
	_, _, e := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&req)))
	sa.Scope_id = uint32(req.index)
	return e
}

// get is the address that the kernel wrote into sa; IPv4 in IPv6's clothes comes out
// as IPv4.
func (sa *Sockaddr) get() netip.AddrPort {
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
	var sa Sockaddr // stays unspecified if the call fails
	n := uint32(unsafe.Sizeof(sa))
	syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n)))
	return sa.get()
}

// FamilyOf is the socket family that reaches a.
func FamilyOf(a netip.AddrPort) int {
	if a.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	if _, is := UnixPath(a.Addr()); is {
		return unix.AF_UNIX
	}
	return unix.AF_INET6
}

// sysAge reads tcpi_last_data_sent. The kernel starts that clock when the handshake
// ends (tcp_create_openreq_child), so before the first byte is sent it is the socket's
// age, in milliseconds and as coarse as a jiffy. A unix socket does not know its own.
func sysAge(fd int) time.Duration {
	const lastDataSent = 44 // offset in struct tcp_info
	var info [lastDataSent + 4]byte
	n := uint32(len(info))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 || n < uint32(len(info)) {
		return -1
	}
	return time.Duration(binary.NativeEndian.Uint32(info[lastDataSent:])) * time.Millisecond
}
