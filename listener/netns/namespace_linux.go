package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// own leads to the namespace of the thread that opens it.
const own = "/proc/thread-self/ns/net"

// Namespace is a network namespace that is held: it stays when its path goes. It is never
// changed, and closed when nobody has it any more. A nil Namespace is the one that this
// process is in.
type Namespace struct {
	Path   string
	Number uint64   // its inode, which no other namespace has as long as this one is held
	File   *os.File // to enter it by
	Home   *os.File // and to come back by
}

// Open holds the namespace at a path. It fails where the namespace can't be entered, which takes
// CAP_SYS_ADMIN. For "" and for this process's own it returns nil.
func Open(path string) (*Namespace, error) {
	if path == "" {
		return nil, nil
	}
	fd, err := open(path)
	if err != nil {
		return nil, err
	}
	n := &Namespace{Path: path, File: os.NewFile(uintptr(fd), path)}
	if err := n.Within(func() error { return nil }); err != nil {
		n.File.Close()
		return nil, err
	}
	var there, here unix.Stat_t
	if err = unix.Fstat(fd, &there); err == nil {
		err = unix.Stat(own, &here)
	}
	if err == nil && there.Ino != here.Ino {
		if n.Home, err = os.Open(own); err == nil {
			n.Number = there.Ino
			return n, nil
		}
	}
	n.File.Close()
	if err != nil {
		err = fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil, err
}

// Number is what a Namespace of this path would have as its Number; 0 = it is this process's
// own, or there is none.
func Number(path string) uint64 {
	var there, here unix.Stat_t
	if path == "" || unix.Stat(path, &there) != nil || unix.Stat(own, &here) != nil || there.Ino == here.Ino {
		return 0
	}
	return there.Ino
}

// Within is the function Within for n.
func (n *Namespace) Within(do func() error) error {
	if n == nil {
		return do()
	}
	defer runtime.KeepAlive(n) // and its descriptor with it
	return within(int(n.File.Fd()), n.Path, do)
}

// Move puts another socket of the same kind in the place of one that nobody has used yet: one
// that is made there.
func (n *Namespace) Move(fd int) error {
	if n == nil {
		return nil
	}
	var kind [3]int
	for i, name := range [...]int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
		var err error
		if kind[i], err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, name); err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
	}
	return n.Within(func() error {
		made, err := unix.Socket(kind[0], kind[1]|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, kind[2])
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(made)
		return os.NewSyscallError("dup3", unix.Dup3(made, fd, unix.O_CLOEXEC))
	})
}
