package listener

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// QueueOf reads a listening socket's accept queue. It needs no privilege.
func QueueOf(fd int) (Queue, error) {
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_UNIX {
		return unixQueueOf(fd)
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Queue{}, fmt.Errorf("TCP_INFO: %w", err)
	}
	const listen = 10 // TCP_LISTEN; in any other state the two figures mean something else
	if info.State != listen {
		return Queue{}, fmt.Errorf("TCP_INFO: not a listening socket")
	}
	drops, err := drops(fd)
	if err != nil {
		return Queue{}, fmt.Errorf("SO_MEMINFO: %w", err)
	}
	return Queue{Length: int(info.Unacked), Limit: int(info.Sacked), Drops: drops}, nil
}

// Queue is the accept queue of a seat's socket; false = it has none, or it can't be read.
// That of a unix socket is the first seat's: it is one for all.
func (g *Group) Queue(seat int) (Queue, bool) {
	fd := g.FD(seat)
	if fd < 0 || g.place != nil && fd != g.any() {
		return Queue{}, false
	}
	q, err := QueueOf(fd)
	return q, err == nil
}

// drops reads sk_drops, the last of SO_MEMINFO's nine words.
func drops(fd int) (uint64, error) {
	const skMeminfoDrops = 8
	var words [skMeminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(words))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&words)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return uint64(words[skMeminfoDrops]), nil
}
