package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const deadline = 5 * time.Second

// live opens a group and makes it live until the test ends.
func live(t *testing.T, o Options) *Group {
	t.Helper()
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	return g
}

func dial(addr netip.AddrPort) (net.Conn, error) {
	return net.DialTimeout("tcp", addr.String(), deadline)
}

func mustDial(t *testing.T, addr netip.AddrPort) net.Conn {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// at is the address on which the group's port is reached from here by way of host.
func at(g *Group, host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), g.Addr().Port())
}

// accept waits until one of the group's sockets gives a connection.
func accept(t *testing.T, g *Group) (seat, conn int) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		var polls []unix.PollFd
		for _, seat := range g.Seats() {
			polls = append(polls, unix.PollFd{Fd: int32(g.FD(seat)), Events: unix.POLLIN})
		}
		if _, err := unix.Poll(polls, 100); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		for _, seat := range g.Seats() {
			if fd, _, err := unix.Accept4(g.FD(seat), unix.SOCK_CLOEXEC); err == nil {
				t.Cleanup(func() { unix.Close(fd) })
				return seat, fd
			}
		}
	}
	t.Fatal("no connection to accept")
	return 0, 0
}

// answer gives each connection of one socket a byte and closes it, until stop.
func answer(t *testing.T, fd int, stop *atomic.Bool) {
	for !stop.Load() {
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10)
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			_, err = unix.Write(conn, []byte{'!'})
			unix.Close(conn)
		}
		if err != nil {
			t.Errorf("answer: %v", err)
			return
		}
	}
}

// ask connects and waits for the byte.
func ask(addr netip.AddrPort) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

func getInt(t *testing.T, fd, level, name int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func needIPv6(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})
	}
	if err != nil {
		skip(t, "no IPv6 loopback on this machine: "+err.Error())
	}
}

// skip gives a test up for want of something that CI must have.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// openDescriptors counts this process's descriptors.
func openDescriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// waitFor repeats a check until it holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("timed out: ", what)
		}
	}
}

// seats are the first n.
func seats(n int) (all []int) {
	for seat := range n {
		all = append(all, seat)
	}
	return all
}
