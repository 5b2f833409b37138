package listener

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ProbeMultipathTimeout says why TCP_USER_TIMEOUT can't be set on a Multipath TCP socket;
// nil = it can, or there is no such socket.
func ProbeMultipathTimeout() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

// ProbeMultipath says why this kernel makes no Multipath TCP socket; nil = it does.
func ProbeMultipath() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return fmt.Errorf("socket: %w (it needs net.mptcp.enabled = 1)", err)
	}
	return unix.Close(fd)
}
