package control

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrStranded is returned when the network namespace has lost its last interface.
var ErrStranded = errors.New("the network namespace has lost its interfaces")

// strandedAfter is how long a namespace may be without interfaces. An engine that moves a
// container from one network to another takes less than a second for it.
const strandedAfter = 5 * time.Second

// watchNamespace returns a channel that is closed when this network namespace had an
// interface beside loopback that was up, and has none any more.
//
// A container in the namespace of another is left behind in it when the other ends: the
// engine takes the interfaces away and makes a new namespace for the next start. What
// listens in the old one looks well, but nothing can reach it. So sluice ends, and the
// engine's next start puts it in the new namespace.
//
// The initial namespace is a machine's own and is not watched. The kernel reports each
// change of an interface; nothing is looked at before. stop ends the watch.
func watchNamespace(log *slog.Logger) (stranded <-chan struct{}, stop func()) {
	if isInitialNamespace() {
		return nil, func() {}
	}
	events, err := linkEvents()
	if err != nil { // a seccomp filter may forbid it
		log.Debug("it will not be noticed if the network namespace is lost", "error", err)
		return nil, func() {}
	}
	ended := make(chan struct{})
	go awaitStranding(events, connected, strandedAfter, ended)
	return ended, func() { events.Close() }
}

// linkSource gives something to read for each change of an interface.
type linkSource interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// awaitStranding closes stranded when the namespace was connected and then was not for as
// long as after. It returns then, or when there is nothing to read any more.
func awaitStranding(events linkSource, connected func() bool, after time.Duration, stranded chan<- struct{}) {
	var had, waiting bool
	var event [4 << 10]byte // what it says does not matter, and may be cut
	for {
		switch now := connected(); {
		case now:
			had, waiting = true, false
			_ = events.SetReadDeadline(time.Time{})
		case had && !waiting:
			waiting = true
			_ = events.SetReadDeadline(time.Now().Add(after))
		}
		_, err := events.Read(event[:])
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS): // or so many events that some are lost
		case errors.Is(err, os.ErrDeadlineExceeded) && !connected():
			close(stranded)
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return
		}
	}
}

// connected says whether an interface beside loopback is up. One that cannot be told is.
func connected() bool {
	all, err := net.Interfaces()
	if err != nil {
		return true
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			return true
		}
	}
	return false
}

// isInitialNamespace goes by a setting that no other namespace has. Where there is no
// /proc/sys it cannot be told, and is not.
func isInitialNamespace() bool {
	_, err := os.Stat("/proc/sys/net/core/netdev_max_backlog")
	return err == nil
}

// linkEvents is a socket that the kernel writes to when an interface changes.
func linkEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}
