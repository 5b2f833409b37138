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
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxPath is what sun_path holds beside its final zero.
	maxPath = 107

	// lockWithin bounds the wait for another sluice that opens or closes a socket in
	// the same directory, which takes it a few system calls.
	lockWithin = 2 * time.Second
)

// socket is the listening unix socket.
type socket struct {
	*net.UnixListener
	path string
	file os.FileInfo // what was made at path
}

// ListenSocket opens the unix socket at path, for its user and root only. Its directory
// is made if it is missing. A file that a dead process has left there is removed; a
// socket on which somebody answers is an error. Close removes the file, unless it has
// become somebody else's.
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
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode goes to the socket before it has a name: nobody ever finds it open.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if outer := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); outer != nil {
			return outer
		}
		return err
	}}
	ln, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, bare(err)
	}
	s := &socket{UnixListener: ln.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false) // it would not look whose file it is
	if s.file, err = os.Lstat(path); err != nil {
		s.UnixListener.Close()
		return nil, err
	}
	return s, nil
}

// Close removes the file and stops listening.
func (s *socket) Close() error {
	if unlock, err := lockDir(filepath.Dir(s.path)); err == nil {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			_ = os.Remove(s.path) // a file that stays is stale, and the next start removes it
		}
		unlock()
	}
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

// lockDir keeps other sluices from opening or closing a socket in dir, so that two that
// start at once do not remove each other's as stale.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		switch err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { f.Close() }, nil
		case err != unix.EWOULDBLOCK && err != unix.EINTR, time.Since(start) > lockWithin:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// removeStale removes a socket at path that nobody answers on.
func removeStale(path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case file.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is no socket is there")
	}
	conn, err := net.DialTimeout("unix", path, lockWithin)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EAGAIN): // its queue is full
		return errors.New("another process listens there")
	case err != nil:
		return bare(err)
	}
	defer conn.Close()
	if owner, err := peerOf(conn); err == nil {
		return fmt.Errorf("another process listens there: pid %d of user %d", owner.PID, owner.UID)
	}
	return errors.New("another process listens there")
}

// peerOf is who is at the other end: of an accepted connection who connected, of a
// dialled one who listens.
func peerOf(conn net.Conn) (Caller, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return Caller{}, fmt.Errorf("%T has no credentials", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *unix.Ucred
	if outer := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); outer != nil {
		return Caller{}, outer
	}
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: cred.Uid, PID: cred.Pid}, nil
}

// bare takes off what net puts around an error: the path is told already.
func bare(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}
