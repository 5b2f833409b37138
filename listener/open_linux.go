package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/listener/netns"
)

// Open creates and binds the group's sockets. None of them is live before
// Listen, so a start that fails after Open has taken no connection.
func Open(o Options) (*Group, error) {
	var g *Group
	err := netns.Within(o.Netns, func() (err error) {
		g, err = open(o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", o.Address, err)
	}
	return g, nil
}

func open(o Options) (_ *Group, err error) {
	if path, is := unixPath(o.Address); is {
		return openAt(path, o)
	}
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
	g := &Group{options: o, addr: addr, order: new(order)}
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
	for _, other := range o.Beside {
		if other.addr == g.addr && other.options.only6(other.addr) == o.only6(g.addr) {
			g.order = other.order
		}
	}
	if !g.joins() && addr.Port() != 0 {
		if err := probe(o, g.addr); err != nil {
			return nil, err
		}
	}
	for _, seat := range o.seats() {
		if err := g.add(seat); err != nil {
			return nil, err
		}
		if g.addr, err = localAddr(g.fds[seat]); err != nil { // where port 0 was asked for, the others bind to the first one's
			return nil, err
		}
	}
	return g, nil
}

// openAt is open for a unix socket.
func openAt(path string, o Options) (*Group, error) {
	g := &Group{options: o, order: new(order)}
	err := g.settleBacklog(o.Backlog)
	if err == nil {
		err = g.openUnix(path, o.seats())
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// seats are those that a group begins with.
func (o Options) seats() []int {
	if len(o.Seats) == 0 {
		return []int{0}
	}
	return o.Seats
}

// joins says whether the address may be served by others already.
func (g *Group) joins() bool { return g.options.Share || len(g.options.Beside) > 0 }

// settleBacklog chooses the backlog in force: the kernel cuts a larger one to
// net.core.somaxconn without a word.
func (g *Group) settleBacklog(asked int) error {
	limit, err := Somaxconn()
	if err != nil {
		return err
	}
	g.backlog, g.notes.backlog = asked, ""
	if asked > limit {
		g.notes.backlog = fmt.Sprintf("backlog %d cut to %d, the limit of net.core.somaxconn", asked, limit)
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
	g.notes.family = fmt.Sprintf("this machine has no IPv6: listening on %s only", g.addr)
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
	// A member that never listens takes no connection either. Whether it may bind tells whose the
	// port is.
	if member, joinErr := bound(o, addr, true); joinErr == nil {
		unix.Close(member)
		return fmt.Errorf("%w: another process of this user serves there (share = true joins its group)", err)
	}
	return heldByOthers(err)
}

func heldByOthers(err error) error {
	return fmt.Errorf("%w: held by another user's process (SO_REUSEPORT is shared only within one effective user), or by one that did not set SO_REUSEPORT", err)
}

// Listen makes the group live, socket by socket in the order of the seats: a socket's
// number in the kernel is the order of its listen(2). In a live group it does so for the
// sockets that Add brought. After an error, Close the group, or Remove those.
func (g *Group) Listen() error {
	if g.place != nil {
		if err := g.listenUnix(); err != nil {
			return fmt.Errorf("listen %s: %w", g.Address(), err)
		}
		return nil
	}
	seats := g.Seats()
	if !g.live {
		// The group is live after this call.
		err := g.listenFirst(seats[0])
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("listen %s: %w: another process began to serve there after Open", g.addr, err)
		}
		if err != nil {
			return fmt.Errorf("listen %s: %w", g.addr, err)
		}
		g.live = true
		g.order.add(g, seats[0])
	}
	for _, seat := range seats {
		if g.order.has(g, seat) {
			continue
		}
		if err := unix.Listen(g.fds[seat], g.backlog); err != nil {
			return fmt.Errorf("listen %s, seat %d: %w", g.addr, seat, err)
		}
		g.order.add(g, seat)
	}
	return nil
}

// listenFirst claims the address. Two instances may both have passed Open's
// probe and only one may win: so the first socket goes live without
// SO_REUSEPORT, which the kernel refuses while another socket listens there,
// and has it back at once.
func (g *Group) listenFirst(seat int) error {
	fd := g.fds[seat]
	if g.joins() {
		return unix.Listen(fd, g.backlog)
	}
	if err := makeGroup(fd); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
		return err
	}
	if err := unix.Listen(fd, g.backlog); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// makeGroup makes a group of a socket before it listens. The kernel would do so at
// listen(2), had that SO_REUSEPORT, and else when a second one listens; but one that
// is alone so far may be given a program, too. The means is a program that chooses
// none, taken off again; a kernel before 5.3 keeps it, and it changes nothing.
func makeGroup(fd int) error {
	const nobody = 1<<32 - 1 // a number that no socket has: the hash chooses
	filter := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: nobody}
	prog := unix.SockFprog{Len: 1, Filter: &filter}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) { // Multipath TCP, an old kernel
		return nil
	}
	return err
}

// Stop ends listening on the sockets of some seats, for all that hold them, workers
// included: no client is answered there from now on, and what still waits in a queue
// is reset. Close alone does so only where the descriptors are the last. The numbers
// of the descriptors stay taken, so a loop that goes on late accepts from no other
// socket. A unix socket ends with its last seat.
func (g *Group) Stop(seats ...int) error {
	var errs []error
	for _, seat := range seats {
		if g.order.has(g, seat) {
			if g.place == nil {
				errs = append(errs, unix.Shutdown(g.fds[seat], unix.SHUT_RD))
			}
			g.order.remove(g, seat)
		}
	}
	if g.place != nil && len(g.order.members) == 0 {
		errs = append(errs, g.leavePlace())
	}
	return errors.Join(errs...)
}

// Close closes the group's descriptors. Where they are a socket's last ones,
// what waits in its queue is reset.
func (g *Group) Close() error {
	errs := []error{g.leavePlace()}
	for _, seat := range g.Seats() {
		errs = append(errs, unix.Close(g.fds[seat]))
		g.order.remove(g, seat)
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
