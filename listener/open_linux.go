package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Open creates and binds the group's sockets. None of them is live before
// Listen, so a start that fails after Open has taken nobody's connection.
func Open(o Options) (*Group, error) {
	g, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", o.Address, err)
	}
	return g, nil
}

func open(o Options) (_ *Group, err error) {
	addr, err := parseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if o.IPv6Only && addr.Addr().Is4() {
		return nil, errors.New("IPv6 only, with an IPv4 address")
	}
	if o.socket == nil {
		o.socket = unix.Socket
	}
	g := &Group{addr: addr, share: o.Share}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if err := g.settleBacklog(o.Backlog); err != nil {
		return nil, err
	}
	if err := g.settleFamily(o); err != nil {
		return nil, err
	}
	if !o.Share && addr.Port() != 0 {
		if err := probe(o, g.addr); err != nil {
			return nil, err
		}
	}
	for range max(o.Count, 1) {
		fd, err := bound(o, g.addr, true)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, heldByOthers(err)
		}
		if err != nil {
			return nil, err
		}
		g.fds = append(g.fds, fd)
		if g.addr, err = localAddr(fd); err != nil { // where port 0 was asked for, the others bind to the first one's
			return nil, err
		}
	}
	return g, nil
}

// settleBacklog chooses the backlog in force: the kernel cuts a larger one to
// net.core.somaxconn without a word.
func (g *Group) settleBacklog(asked int) error {
	limit, err := Somaxconn()
	if err != nil {
		return err
	}
	g.backlog = asked
	if asked > limit {
		g.notes = append(g.notes, fmt.Sprintf("backlog %d cut to %d, the limit of net.core.somaxconn", asked, limit))
	}
	if asked <= 0 || asked > limit {
		g.backlog = limit
	}
	return nil
}

// settleFamily falls back to 0.0.0.0 where both families were asked for and the
// machine has no IPv6.
func (g *Group) settleFamily(o Options) error {
	if g.addr.Addr().Is4() {
		return nil
	}
	fd, err := o.socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.EAFNOSUPPORT) || !g.addr.Addr().IsUnspecified() || o.IPv6Only {
		return fmt.Errorf("IPv6 socket: %w", err)
	}
	g.addr = netip.AddrPortFrom(netip.IPv4Unspecified(), g.addr.Port())
	g.notes = append(g.notes, fmt.Sprintf("this machine has no IPv6: listening on %s only", g.addr))
	return nil
}

// probe fails when addr is in use. It binds without SO_REUSEPORT, so it never
// becomes a member of a live group and takes none of its connections.
func probe(o Options, addr netip.AddrPort) error {
	fd, err := bound(o, addr, false)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	// A member that never listens takes no connection either. Whether it may bind tells who is there.
	if member, joinErr := bound(o, addr, true); joinErr == nil {
		unix.Close(member)
		return fmt.Errorf("%w: another process of this user serves there (share = true joins its group)", err)
	}
	return heldByOthers(err)
}

func heldByOthers(err error) error {
	return fmt.Errorf("%w: held by another user's process (SO_REUSEPORT is shared only within one effective user), or by one that did not set SO_REUSEPORT", err)
}

// Listen makes the group live, socket by socket: a socket's number in the kernel
// is the order of its listen(2). After an error, Close the group.
func (g *Group) Listen() error {
	// The group is live after this call.
	err := g.listenFirst()
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("listen %s: %w: another process began to serve there after Open", g.addr, err)
	}
	if err != nil {
		return fmt.Errorf("listen %s: %w", g.addr, err)
	}
	for i, fd := range g.fds[1:] {
		if err := unix.Listen(fd, g.backlog); err != nil {
			return fmt.Errorf("listen %s, socket %d: %w", g.addr, i+1, err)
		}
	}
	return nil
}

// listenFirst claims the address. Two instances may both have passed Open's
// probe and only one may win: so the first socket goes live without
// SO_REUSEPORT, which the kernel refuses while anybody else listens there, and
// has it back at once.
func (g *Group) listenFirst() error {
	fd := g.fds[0]
	if g.share {
		return unix.Listen(fd, g.backlog)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
		return err
	}
	if err := unix.Listen(fd, g.backlog); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// Stop ends listening for whoever holds the sockets, workers included: clients are
// refused from now on, and what still waits in a queue is reset. Close alone does so
// only where the descriptors are the last.
func (g *Group) Stop() error {
	var errs []error
	for _, fd := range g.fds {
		errs = append(errs, unix.Shutdown(fd, unix.SHUT_RD))
	}
	return errors.Join(errs...)
}

// Close closes the group's descriptors. Where they are a socket's last ones,
// what waits in its queue is reset.
func (g *Group) Close() error {
	var errs []error
	for _, fd := range g.fds {
		errs = append(errs, unix.Close(fd))
	}
	g.fds = nil
	return errors.Join(errs...)
}

// Somaxconn is net.core.somaxconn, the bound of every backlog.
func Somaxconn() (int, error) {
	b, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
