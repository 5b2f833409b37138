package sys

import (
	"net/netip"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unixZone begins the zone of an address that stands for a unix socket: see pool.UnixAddr.
// No interface has such a name.
const unixZone = "unix:"

// UnixPath is the path of an address that stands for a unix socket, or its abstract name
// behind an @.
func UnixPath(a netip.Addr) (path string, is bool) { return strings.CutPrefix(a.Zone(), unixZone) }

// connectUnix connects to a path or an abstract name, which unlike TCP is done at once, or
// EAGAIN: the listener's queue is full.
func connectUnix(fd int, path string) syscall.Errno {
	sa := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	if len(path) >= len(sa.Path) {
		return syscall.ENAMETOOLONG
	}
	for i := range len(path) {
		sa.Path[i] = int8(path[i])
	}
	n := unsafe.Offsetof(sa.Path) + uintptr(len(path))
	if path[0] == '@' {
		sa.Path[0] = 0
	} else {
		n++ // the NUL
	}
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), n)
	return e
}
