// Package netns does something in another network namespace of this machine. A socket
// stays in the namespace in which it was made, so it is enough to make it there:
//
//	Within("/run/netns/blue", open) ─► a thread that enters the namespace ─► open ─► the thread ends
package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within runs do in the network namespace at a path, as ip-netns(8) keeps them in /run/netns,
// and returns its error or that the namespace can't be entered, which takes CAP_SYS_ADMIN. Files
// of /proc/thread-self/net and /proc/sys/net are those of the namespace, too. A path of ""
// is the namespace that the caller is in: then do is called plainly.
func Within(path string, do func() error) error {
	if path == "" {
		return do()
	}
	fd, err := open(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return within(fd, path, do)
}

func open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // a FIFO is none, and not waited for
	if err != nil {
		return -1, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return fd, nil
}

func within(fd int, path string, do func() error) error {
	done := make(chan error)
	go enter(fd, path, do, done)
	return <-done
}

// enter does it on a thread of its own, which is never unlocked: it ends with the goroutine,
// and no other is given one that is in another namespace.
func enter(fd int, path string, do func() error, done chan<- error) {
	runtime.LockOSThread()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		done <- fmt.Errorf("network namespace %s: setns: %w (it needs CAP_SYS_ADMIN)", path, err)
		return
	}
	done <- do()
}
