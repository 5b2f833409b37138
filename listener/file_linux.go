package listener

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// File is the name of a unix socket in a file system. Any process that may write in its
// directory may take it away, so each look at it asks first whether it is still the same.
type File struct {
	path string
	made os.FileInfo // as it was made
}

// lockWithin bounds the wait for another sluice that claims or removes a file in the same
// directory, which takes it a few system calls.
const lockWithin = 2 * time.Second

// ClaimFile has bind make a unix socket at path. A file that a dead process has left there
// is removed first; a socket on which a process answers is an error.
func ClaimFile(path string, bind func() error) (*File, error) {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	if err := bind(); err != nil {
		return nil, err
	}
	f := &File{path: path}
	if f.made, err = os.Lstat(path); err != nil {
		return nil, err
	}
	return f, nil
}

// Remove takes the file away, unless it has become another's.
func (f *File) Remove() {
	unlock, err := lockDir(filepath.Dir(f.path))
	if err != nil {
		return
	}
	defer unlock()
	if f.isOurs() {
		_ = os.Remove(f.path) // a file that stays is stale, and the next start removes it
	}
}

func (f *File) isOurs() bool {
	now, err := os.Lstat(f.path)
	return err == nil && os.SameFile(now, f.made)
}

// Rights are those of a unix socket's file: a process that may write to it may connect.
type Rights struct {
	Mode        fs.FileMode // permission bits; 0 = 0660
	User, Group string      // names or numbers; "" = as the file was made
}

const defaultMode fs.FileMode = 0o660

// Give sets the rights of the file.
func (f *File) Give(r Rights) error {
	uid, gid, err := r.owners(f.made)
	if err != nil {
		return err
	}
	if !f.isOurs() {
		return errors.New("the file has gone, or is another's by now")
	}
	now, err := os.Lstat(f.path)
	if err != nil {
		return err
	}
	if u, g := ownersOf(now); u != uid || g != gid {
		if err := os.Lchown(f.path, uid, gid); err != nil {
			return fmt.Errorf("owner %d:%d: %w (it needs CAP_CHOWN, or a group that this user is in)", uid, gid, bare(err))
		}
	}
	mode := r.Mode
	if mode == 0 {
		mode = defaultMode
	}
	if err := os.Chmod(f.path, mode); err != nil {
		return fmt.Errorf("mode %04o: %w", uint32(mode), bare(err))
	}
	return nil
}

// owners are the numbers that r means of a file that was made so.
func (r Rights) owners(made os.FileInfo) (uid, gid int, err error) {
	uid, gid = ownersOf(made)
	if r.User != "" {
		if uid, err = UserID(r.User); err != nil {
			return 0, 0, err
		}
	}
	if r.Group != "" {
		if gid, err = GroupID(r.Group); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

func ownersOf(info os.FileInfo) (uid, gid int) {
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

// UserID is the number of a user, given as a number or by name.
func UserID(text string) (int, error) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(n), nil
	}
	u, err := user.Lookup(text)
	if err != nil {
		return 0, fmt.Errorf("this machine has no user %q", text)
	}
	return strconv.Atoi(u.Uid)
}

// GroupID is the same of a group.
func GroupID(text string) (int, error) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(text)
	if err != nil {
		return 0, fmt.Errorf("this machine has no group %q", text)
	}
	return strconv.Atoi(g.Gid)
}

// lockDir keeps other sluices from claiming or removing a socket in dir, so that two that
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

// removeStale removes a socket at path that no process answers on.
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
	if owner, err := PeerOf(conn); err == nil {
		return fmt.Errorf("another process listens there: pid %d of user %d", owner.Pid, owner.Uid)
	}
	return errors.New("another process listens there")
}

// PeerOf is the process at the other end of a unix connection: of an accepted one the one
// that connected, of a dialled one the one that listens.
func PeerOf(conn net.Conn) (*unix.Ucred, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T has no credentials", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	if outer := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); outer != nil {
		return nil, outer
	}
	return cred, err
}

// bare takes off what packages net and os put around an error: the path is there already.
func bare(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}
