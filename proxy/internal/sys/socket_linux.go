package sys

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
	var sa Sockaddr
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), sa.Set(netip.AddrPortFrom(a, 0)))
	return e
}

func sysConnect(fd int, a netip.AddrPort) syscall.Errno {
	var sa Sockaddr
	n := sa.Set(a)
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), n)
	return e
}

// Sockaddr is room for either family's address as the kernel wants it.
type Sockaddr unix.RawSockaddrInet6

// Set writes a into sa and returns its length.
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
	return unix.AF_INET6
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
