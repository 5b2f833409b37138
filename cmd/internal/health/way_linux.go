package health

import (
	"strings"
	"syscall"

	"sluice/listener/netns"
)

// way is what decides by which way packets go: a check goes as the sessions do.
type way struct {
	mark    int
	dev     string
	holdAck bool // the handshake's last ACK waits a moment: the server does not see one that is reset before
	netns   *netns.Namespace
}

// control sets it on a socket that is about to connect.
func (w way) control(network, _ string, raw syscall.RawConn) (err error) {
	set := w.set
	if strings.HasPrefix(network, "unix") {
		set = w.netns.Move // abstract names are a network's
	}
	if failed := raw.Control(func(fd uintptr) { err = set(int(fd)) }); failed != nil {
		return failed
	}
	return err
}

func (w way) set(fd int) (err error) {
	const soMark = 0x24 // SO_MARK
	if err := w.netns.Move(fd); err != nil {
		return err
	}
	if w.mark != 0 {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soMark, w.mark)
	}
	if w.holdAck {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
	}
	if w.dev != "" && err == nil {
		err = syscall.BindToDevice(fd, w.dev)
	}
	return err
}
