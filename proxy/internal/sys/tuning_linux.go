package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tuning is what a backend's socket is given, in the kernel's units. It is plain data,
// part of a Plan. Zero leaves a thing as the kernel has it.
type Tuning struct {
	KeepIdle     int // seconds of silence before the first keepalive probe; 0 = no keepalive
	KeepInterval int // seconds between two probes
	KeepCount    int // probes without an answer, and the connection is dead
	UserTimeout  int // milliseconds that sent bytes may stay unacknowledged, or a window closed
	Buffer       int // bytes of each socket buffer; the kernel doubles it for its own needs
}

// Wanted says whether t asks for anything once a connection is there.
func (t Tuning) Wanted() bool { return t.KeepIdle > 0 || t.UserTimeout > 0 }

// sysTune sets what t says of a dead peer. What it does not ask for is turned off.
func sysTune(fd int, t Tuning) {
	keep := 0
	if t.KeepIdle > 0 {
		setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, t.KeepIdle)
		setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, t.KeepInterval)
		setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, t.KeepCount)
		keep = 1
	}
	setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, keep)
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, t.UserTimeout)
}

func sysSetBuffer(fd, size int) {
	setInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
}

// maxUnsent is how many bytes a stream's socket takes that its peer's window, or the
// network, has no room for yet. The kernel would take up to tcp_wmem's 4 MiB, and megabytes
// of it for a peer that does not read. 64 KiB saved no more memory worth naming than this,
// 1 MiB little; none of them cost throughput or CPU on loopback.
const maxUnsent = 256 << 10

func setInt(fd, level, name, value int) syscall.Errno {
	v := int32(value)
	_, _, e := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), 4, 0)
	return e
}
