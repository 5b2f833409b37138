package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Early is what a socket is given before it connects, since the SYN goes by it. Zero
// leaves a thing as the kernel has it.
type Early struct {
	Congestion string // name of the congestion control
	TOS        int    // of the packets
	Mark       int    // of the packets, for routing rules and firewalls
	Interface  string // the only one that packets come and go by
}

// sysPrepare sets what e asks for. A mark or an interface that is refused is an error: the
// connection would go another way. The rest is as good without, and was tried at the start.
func sysPrepare(fd, family int, e *Early) syscall.Errno {
	if e.Mark != 0 {
		if errno := setInt(fd, unix.SOL_SOCKET, unix.SO_MARK, e.Mark); errno != 0 {
			return errno
		}
	}
	if e.Interface != "" {
		if errno := setText(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, e.Interface); errno != 0 {
			return errno
		}
	}
	if e.TOS != 0 && family == unix.AF_INET6 {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, e.TOS)
	} else if e.TOS != 0 {
		setInt(fd, unix.IPPROTO_IP, unix.IP_TOS, e.TOS)
	}
	if e.Congestion != "" {
		setText(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, e.Congestion)
	}
	return 0
}

func setText(fd, level, name int, value string) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.StringData(value))), uintptr(len(value)), 0)
	return e
}
