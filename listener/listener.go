// Package listener turns an address into a group of listening sockets.
//
//	"[::]:8080", Seats 0 to 3
//	      │ Open: probe plainly, create and bind, not yet live
//	      ▼
//	Group  socket 0   socket 1   socket 2   socket 3      SO_REUSEPORT: the kernel spreads the SYNs
//	      │ Listen: live from here on
//	      ▼
//	acceptor 0 .. 3 accept from their descriptors; QueueOf tells how many wait
//	      │ Add and Listen, Remove: one socket more, one less, while the others serve
//	      ▼
//	Group  socket 0   socket 2   socket 3   socket 7      by seat, the acceptor's number; Order is the kernel's
//
// "unix:/run/web.sock" is one socket that all seats have: see unix_linux.go.
//
// The control plane owns the Group and closes it last of all: closing a
// listening socket resets whatever still waits in its queue. Acceptors are given
// descriptors (or dups of them) and never close them. A worker or a successor
// process wraps the descriptors it was passed with Adopt.
package listener

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Options say what to listen on. The zero value of each field is usable, but for
// Address.
type Options struct {
	// Address is "host:port" with a literal IP address. ":port" and "[::]:port"
	// take IPv4 and IPv6 alike. Port 0 lets the kernel choose one for the group.
	// "unix:/path" and "unix:@name" are unix sockets, whose accepted sockets have nothing
	// of what follows but Seats, Backlog, Beside and Rights.
	Address string

	Seats    []int // whose sockets it begins with; none = seat 0
	Backlog  int   // connections that may wait in each socket's queue; 0 = net.core.somaxconn, which also bounds it
	IPv6Only bool  // "[::]:port" leaves IPv4 alone
	MPTCP    bool  // speak Multipath TCP; such a group takes no steering program

	// Share joins a group that another process of the same effective user
	// already serves. Without it a port in use is an error.
	Share bool

	// Beside names the groups of this process that serve an overlapping address on
	// this port: what they hold is not a port in use. Nothing then tells whether
	// another process of the same user serves it too; it is joined without a word,
	// as under Share. One of them on the very same address is, to the kernel, one
	// group with the new one: Order counts both.
	Beside []*Group

	// Netns is the path of the network namespace that Address is of; "" = this process's.
	Netns string

	Freebind bool // addresses that this machine does not have yet will do (IP_FREEBIND)
	Buffer   int  // bytes of each buffer of the accepted sockets; 0 = the kernel tunes them

	Extras

	// Keeping and Rights may be Adjusted.
	Keeping
	Rights

	socket func(domain, typ, proto int) (int, error) // nil = socket(2); tests take IPv6 away here
}

// Keeping says when a client is taken for dead. Its sockets inherit it.
type Keeping struct {
	KeepAlive    time.Duration // silence after which a client is probed; 0 = never
	KeepInterval time.Duration // between two probes; 0 = a third of KeepAlive
	KeepCount    int           // probes without an answer, and it is dead; 0 = 3
	UserTimeout  time.Duration // that sent bytes may stay unacknowledged, or its window closed; 0 = as long as the kernel tries
}

// Settled is k with what it leaves open filled in, in whole seconds: three probes a third
// of the silence apart find a dead client after twice the silence.
func (k Keeping) Settled() Keeping {
	if k.KeepAlive <= 0 {
		k.KeepAlive, k.KeepInterval, k.KeepCount = 0, 0, 0
		return k
	}
	if k.KeepInterval <= 0 {
		k.KeepInterval = k.KeepAlive / 3
	}
	if k.KeepCount <= 0 {
		k.KeepCount = 3
	}
	k.KeepAlive, k.KeepInterval = keepSeconds(k.KeepAlive), keepSeconds(k.KeepInterval)
	return k
}

// keepSeconds rounds up to whole seconds and keeps within the kernel's bounds, 1 to 32767.
func keepSeconds(d time.Duration) time.Duration {
	return min(max((d+time.Second-1).Truncate(time.Second), time.Second), 32767*time.Second)
}

// SameSockets says whether the sockets of a group opened with o serve p as well, once
// the group is Adjusted to it. How many there are and how the group was opened (Share,
// Beside) does not matter.
func (o Options) SameSockets(p Options) bool {
	if path, is := unixPath(o.Address); is {
		return unixPrefix+path == p.Address
	}
	ours, err := parseAddress(o.Address)
	theirs, err2 := parseAddress(p.Address)
	if err != nil || err2 != nil {
		return false
	}
	return ours == theirs && o.only6(ours) == p.only6(theirs) && o.MPTCP == p.MPTCP &&
		o.Netns == p.Netns && o.Freebind == p.Freebind && o.Buffer == p.Buffer && o.Extras == p.Extras
}

// only6 is whether sockets on addr leave IPv4 alone.
func (o Options) only6(addr netip.AddrPort) bool {
	return addr.Addr().Is6() && (o.IPv6Only || !addr.Addr().IsUnspecified())
}

// Group is the sockets of one address, by seat: the number of the acceptor that
// accepts from it. It belongs to one goroutine, and so do all that are Beside it.
type Group struct {
	options Options // as opened and adjusted; without a socket function where adopted
	fds     []int   // by seat, -1 = none
	addr    netip.AddrPort
	backlog int
	live    bool
	order   *order // of those that listen
	place   *place // of a unix socket; nil = it is none
	notes   notes
}

// Len is the number of sockets.
func (g *Group) Len() int { return len(g.Seats()) }

// Seats are those that have a socket, in ascending order.
func (g *Group) Seats() []int {
	var seats []int
	for seat, fd := range g.fds {
		if fd >= 0 {
			seats = append(seats, seat)
		}
	}
	return seats
}

// FD is a seat's descriptor, or -1. It is the group's: do not close it.
func (g *Group) FD(seat int) int {
	if seat < 0 || seat >= len(g.fds) {
		return -1
	}
	return g.fds[seat]
}

// Addr is the address in force: the port is known when 0 was asked for, and
// 0.0.0.0 stands where there was no IPv6 to serve both families. A unix socket has none.
func (g *Group) Addr() netip.AddrPort { return g.addr }

// Netns is the network namespace that the group listens in, as it was opened.
func (g *Group) Netns() string { return g.options.Netns }

// Backlog is the queue limit in force for each socket.
func (g *Group) Backlog() int { return g.backlog }

// Notes are sentences for the log on what is not as it was asked for.
func (g *Group) Notes() []string {
	var all []string
	for _, note := range []string{g.notes.family, g.notes.backlog} {
		if note != "" {
			all = append(all, note)
		}
	}
	return all
}

// notes are those sentences; "" = it is as it was asked for.
type notes struct{ family, backlog string }

// Queue is how one listening socket's accept queue stands.
type Queue struct {
	Length int    // connections established and not yet accepted
	Limit  int    // the backlog in force; the kernel lets one more in
	Drops  uint64 // handshakes dropped since the socket was made, mostly because the queue was full; 32 bits wide in the kernel
}

// parseAddress reads "host:port". An empty host is the IPv6 wildcard.
func parseAddress(s string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q: want a number from 0 to 65535", service)
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("host %q: want an IPv4 or IPv6 address, or none for all", host)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}
