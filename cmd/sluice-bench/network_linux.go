package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const congestionControl = "/proc/sys/net/ipv4/tcp_congestion_control"

// ownNetwork puts the calling goroutine, and every process that it starts from now on, into a network namespace that has a loopback
// and nothing else: no other traffic, no packet filter, and TCP as it is everywhere. Its congestion control is reno, which every kernel
// has and which does not pace: BBR arms a timer for each segment, which on loopback costs more than to carry it, and what is left
// between the proxies is small beside that.
func ownNetwork() error {
	runtime.LockOSThread() // for good: the thread must not serve another goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace: socket: %w", err)
	}
	defer unix.Close(fd)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback); err != nil {
		return fmt.Errorf("network namespace: loopback up: %w", err)
	}
	if err := os.WriteFile(congestionControl, []byte("reno"), 0); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	return nil
}

// congestion is the congestion control in force, for the calling goroutine.
func congestion() string {
	name, _ := os.ReadFile(congestionControl)
	return strings.TrimSpace(string(name))
}
