package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

// maxPath is what sun_path holds beside its final zero.
const maxPath = 107

// socket is the listening unix socket.
type socket struct {
	*net.UnixListener
	file *listener.File
}

// ListenSocket opens the unix socket at path, for its user and root only. Its directory
// is made if it is missing. A file that a dead process has left there is removed; a
// socket on which a process answers is an error. Close removes the file, unless it has
// become another's.
func ListenSocket(path string) (net.Listener, error) {
	ln, err := listenSocket(path)
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	return ln, nil
}

func listenSocket(path string) (net.Listener, error) {
	switch {
	case path == "" || path[0] == '@':
		return nil, errors.New("the path must name a file")
	case len(path) > maxPath:
		return nil, fmt.Errorf("the path has %d bytes, but a unix socket takes at most %d", len(path), maxPath)
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	// The mode goes to the socket before it has a name: it is never found open.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if outer := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); outer != nil {
			return outer
		}
		return err
	}}
	s := &socket{}
	var err error
	s.file, err = listener.ClaimFile(path, func() error {
		ln, err := private.Listen(context.Background(), "unix", path)
		if err != nil {
			return bare(err)
		}
		s.UnixListener = ln.(*net.UnixListener)
		s.SetUnlinkOnClose(false) // it would not look whose file it is
		return nil
	})
	if err != nil {
		if s.UnixListener != nil {
			s.UnixListener.Close()
		}
		return nil, err
	}
	return s, nil
}

// Close removes the file and stops listening.
func (s *socket) Close() error {
	s.file.Remove()
	return s.UnixListener.Close()
}

// makeDir makes dir for this user alone, and what is missing above it for all to pass.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// peerOf is the process that connected.
func peerOf(conn net.Conn) (Caller, error) {
	cred, err := listener.PeerOf(conn)
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: cred.Uid, PID: cred.Pid}, nil
}

// bare takes off what net puts around an error: the path is there already.
func bare(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}
