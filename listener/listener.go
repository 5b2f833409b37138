// Package listener turns an address into a group of listening sockets.
//
//	"[::]:8080", Count 4
//	      │ Open: probe plainly, create and bind, not yet live
//	      ▼
//	Group  socket 0   socket 1   socket 2   socket 3      SO_REUSEPORT: the kernel spreads the SYNs
//	      │ Listen: live from here on
//	      ▼
//	acceptor 0 .. 3 accept from their descriptors; QueueOf tells how many wait
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
	Address string

	Count    int  // sockets in the group; 0 = 1
	Backlog  int  // connections that may wait in each socket's queue; 0 = net.core.somaxconn, which also bounds it
	IPv6Only bool // "[::]:port" leaves IPv4 alone
	MPTCP    bool // speak Multipath TCP; such a group takes no steering program

	// Share joins a group that another process of the same effective user
	// already serves. Without it a port in use is an error.
	Share bool

	// KeepAlive is the silence after which a client is probed; 0 = never. A dead
	// client is found after about twice this time.
	KeepAlive time.Duration

	socket func(domain, typ, proto int) (int, error) // nil = socket(2); tests take IPv6 away here
}

// Group is the sockets of one address, in the order in which the kernel numbers
// them. It belongs to one goroutine.
type Group struct {
	fds     []int
	addr    netip.AddrPort
	backlog int
	share   bool
	notes   []string
}

// Len is the number of sockets.
func (g *Group) Len() int { return len(g.fds) }

// FD is socket i's descriptor. It is the group's: do not close it.
func (g *Group) FD(i int) int { return g.fds[i] }

// Addr is the address in force: the port is known when 0 was asked for, and
// 0.0.0.0 stands where there was no IPv6 to serve both families.
func (g *Group) Addr() netip.AddrPort { return g.addr }

// Backlog is the queue limit in force for each socket.
func (g *Group) Backlog() int { return g.backlog }

// Notes are sentences for the log on what is not as it was asked for.
func (g *Group) Notes() []string { return g.notes }

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
