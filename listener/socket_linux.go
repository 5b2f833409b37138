package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// bound returns a socket with every option set and bound to addr, not listening.
func bound(o Options, addr netip.AddrPort, reusePort bool) (_ int, err error) {
	domain := unix.AF_INET
	if addr.Addr().Is6() {
		domain = unix.AF_INET6
	}
	protocol := unix.IPPROTO_TCP
	if o.MPTCP {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := o.socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := set(fd, options(o, addr, reusePort)); err != nil {
		return -1, err
	}
	if err := o.Extras.apply(fd); err != nil {
		return -1, err
	}
	sa, err := sockaddr(addr)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return -1, fmt.Errorf("bind %s: %w", addr, err)
	}
	return fd, nil
}

type option struct {
	level, name, value int
	text               string
}

// options are all that is set on a listening socket. Accepted sockets inherit
// the TCP ones, which saves each of them the system calls.
func options(o Options, addr netip.AddrPort, reusePort bool) []option {
	set := []option{
		// A restart must not wait for the TIME_WAIT sockets of the last run.
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
		// A relay must not hold back a small write that its peer made on purpose.
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
	}
	if reusePort {
		set = append(set, option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"})
	}
	if addr.Addr().Is6() {
		// Set outright, because net.ipv6.bindv6only changes the default.
		set = append(set, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, boolInt(o.only6(addr)), "IPV6_V6ONLY"})
	}
	if o.Freebind {
		set = append(set, option{unix.SOL_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"}) // IPv6 goes by the same bit
	}
	if o.Buffer > 0 {
		set = append(set, option{unix.SOL_SOCKET, unix.SO_RCVBUF, o.Buffer, "SO_RCVBUF"},
			option{unix.SOL_SOCKET, unix.SO_SNDBUF, o.Buffer, "SO_SNDBUF"})
	}
	return append(set, o.keeping(o.MPTCP)...)
}

// keeping are the options of a Keeping. The kernel counts keepalive in seconds. A
// Multipath TCP socket is asked for TCP_USER_TIMEOUT only where it is wanted: not every
// kernel has it there.
func (k Keeping) keeping(mptcp bool) []option {
	var all []option
	if !mptcp || k.UserTimeout > 0 {
		all = append(all, option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(k.UserTimeout.Milliseconds()), "TCP_USER_TIMEOUT"})
	}
	k = k.Settled()
	if k.KeepAlive == 0 {
		return append(all, option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0, "SO_KEEPALIVE"})
	}
	return append(all,
		option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.KeepAlive / time.Second), "TCP_KEEPIDLE"},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.KeepInterval / time.Second), "TCP_KEEPINTVL"},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.KeepCount, "TCP_KEEPCNT"})
}

func set(fd int, options []option) error {
	for _, opt := range options {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			return fmt.Errorf("set %s: %w", opt.text, err)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sockaddr(addr netip.AddrPort) (unix.Sockaddr, error) {
	ip := addr.Addr()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	if ip.Zone() != "" {
		ifi, err := net.InterfaceByName(ip.Zone())
		if err != nil {
			return nil, fmt.Errorf("zone %q: %w", ip.Zone(), err)
		}
		sa.ZoneId = uint32(ifi.Index)
	}
	return sa, nil
}

// localAddr is the address that a TCP socket is bound to.
func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			ifi, err := net.InterfaceByIndex(int(sa.ZoneId))
			if err != nil {
				return netip.AddrPort{}, fmt.Errorf("zone %d: %w", sa.ZoneId, err)
			}
			ip = ip.WithZone(ifi.Name)
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, errors.New("not an IP socket")
}
