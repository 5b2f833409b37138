package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unixQueueOf asks the kernel's socket diagnosis for a unix socket. Where that is not
// there (a sandbox, another network namespace), only whether a client waits is known: the
// limit is 0 then. There are no handshakes to drop.
func unixQueueOf(fd int) (Queue, error) {
	if is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || is == 0 {
		return Queue{}, errors.New("not a listening socket")
	}
	if q, err := diagnose(fd); err == nil {
		return q, nil
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return Queue{}, fmt.Errorf("poll: %w", err)
	}
	if fds[0].Revents&unix.POLLIN != 0 {
		return Queue{Length: 1}, nil
	}
	return Queue{}, nil
}

// unixDiagRequest is struct unix_diag_req behind its header.
type unixDiagRequest struct {
	head     unix.NlMsghdr
	family   uint8
	protocol uint8
	_        uint16
	states   uint32
	inode    uint32
	show     uint32
	cookie   [2]uint32
}

// diagnose reads UNIX_DIAG_RQLEN.
func diagnose(fd int) (Queue, error) {
	const (
		sockDiagByFamily = 20
		showQueue        = 0x10 // UDIAG_SHOW_RQLEN
		attrQueue        = 4    // UNIX_DIAG_RQLEN
		answerHead       = unix.SizeofNlMsghdr + 16
	)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return Queue{}, err
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return Queue{}, err
	}
	defer unix.Close(nl)
	ask := unixDiagRequest{family: unix.AF_UNIX, states: 1<<32 - 1, inode: uint32(stat.Ino), show: showQueue, cookie: [2]uint32{1<<32 - 1, 1<<32 - 1}}
	ask.head = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(ask)), Type: sockDiagByFamily, Flags: unix.NLM_F_REQUEST}
	if err := unix.Sendto(nl, unsafe.Slice((*byte)(unsafe.Pointer(&ask)), unsafe.Sizeof(ask)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Queue{}, err
	}
	var answer [512]byte
	n, _, err := unix.Recvfrom(nl, answer[:], unix.MSG_DONTWAIT) // the kernel answers within sendto
	if err != nil {
		return Queue{}, err
	}
	if n < answerHead || binary.NativeEndian.Uint16(answer[4:]) != sockDiagByFamily {
		return Queue{}, errors.New("no such socket")
	}
	for rest := answer[answerHead:n]; len(rest) >= 12; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if kind == attrQueue && size >= 12 {
			return Queue{Length: int(binary.NativeEndian.Uint32(rest[4:])), Limit: int(binary.NativeEndian.Uint32(rest[8:]))}, nil
		}
		if size = (size + 3) &^ 3; size < 4 || size > len(rest) {
			break
		}
		rest = rest[size:]
	}
	return Queue{}, errors.New("no queue in the answer")
}
