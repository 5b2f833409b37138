package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// sysVanish closes fd so that its peer hears nothing. A socket under repair does (tcp(7),
// TCP_REPAIR), which takes CAP_NET_ADMIN. Without it close(2) sends a RST that the next
// router drops, for its hop limit is 1: a peer on the same network still gets it.
// HAProxy's silent-drop does the same. The kernel answers what the peer sends later as it
// likes.
func sysVanish(fd int) syscall.Errno {
	if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) == nil {
		return sysClose(fd)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 1) // of an IPv6 socket with an IPv4 peer, too
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 1)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return sysClose(fd)
}
