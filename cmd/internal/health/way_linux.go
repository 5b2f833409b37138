package health

import "syscall"

// way is what decides by which way packets go: a check goes as the sessions do.
type way struct {
	mark    int
	dev     string
	holdAck bool // the handshake's last ACK waits a moment: who is reset before has not been seen
}

// control sets it on a socket that is about to connect.
func (w way) control(_, _ string, raw syscall.RawConn) (err error) {
	const soMark = 0x24 // SO_MARK
	if failed := raw.Control(func(fd uintptr) {
		if w.mark != 0 {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soMark, w.mark)
		}
		if w.holdAck {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
		}
		if w.dev != "" && err == nil {
			err = syscall.BindToDevice(int(fd), w.dev)
		}
	}); failed != nil {
		return failed
	}
	return err
}
