package host

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// errNoRoom says that the kernel takes no more descriptors on their way for now.
var errNoRoom = errors.New("no room for descriptors")

// sendRights sends a short frame whole with descriptors, and never waits.
func sendRights(conn net.Conn, frame []byte, fds []int) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("descriptors over %T", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var sent error
	err = raw.Control(func(fd uintptr) {
		for sent = unix.EINTR; sent == unix.EINTR; {
			n, sent = unix.SendmsgN(int(fd), frame, unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	})
	switch {
	case err != nil:
		return err
	case sent == unix.EAGAIN, sent == unix.ENOBUFS, sent == unix.ENOMEM,
		sent == unix.ETOOMANYREFS: // as many as RLIMIT_NOFILE are on their way already
		return errNoRoom
	case sent != nil:
		return fmt.Errorf("sendmsg: %w", sent)
	case n < len(frame):
		return fmt.Errorf("sendmsg: only %d of %d bytes", n, len(frame))
	}
	return nil
}

// rightsReader reads a connection and keeps the descriptors that come with the bytes.
type rightsReader struct {
	conn *net.UnixConn
	fds  []int
}

// Read is io.Reader's. The descriptors are close-on-exec from the beginning.
func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxRights*4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	messages, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
	if parseErr != nil {
		messages = nil
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			r.fds = append(r.fds, fds...)
		}
	}
	return n, err
}

// take returns the descriptors that have come since it was called last; they are the
// caller's. Where this process had no room for them, the kernel has dropped the rest.
func (r *rightsReader) take() []int {
	fds := r.fds
	r.fds = nil
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// checkSocket says whether fd is a socket of some group, listening or not yet. A
// descriptor of something else would be noticed only when a client comes. A unix socket
// is one without SO_REUSEPORT.
func checkSocket(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	for _, want := range []struct {
		name, value int
		text        string
	}{
		{unix.SO_TYPE, unix.SOCK_STREAM, "not a stream socket"},
		{unix.SO_REUSEPORT, 1, "SO_REUSEPORT is not set"},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.name)
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
		if got != want.value && !(domain == unix.AF_UNIX && want.name == unix.SO_REUSEPORT) {
			return fmt.Errorf("descriptor %d: %s", fd, want.text)
		}
	}
	return nil
}
