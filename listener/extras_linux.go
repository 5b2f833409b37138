package listener

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Extras are options of sockets that few need, named like the kernel's. Zero leaves a
// thing as the kernel has it. The accepted sockets inherit them.
type Extras struct {
	FastOpen    int           // clients that may wait with data in their SYN (TCP_FASTOPEN); needs bit 2 of net.ipv4.tcp_fastopen
	DeferAccept time.Duration // a connection is accepted with its first byte, or after so long (TCP_DEFER_ACCEPT), in seconds rounded up
	Congestion  string        // name of the congestion control (TCP_CONGESTION)
	TOS         int           // of the packets: IP_TOS and IPV6_TCLASS
	Mark        int           // of the packets, for routing rules and firewalls (SO_MARK); takes CAP_NET_ADMIN
	Interface   string        // the only one that packets come and go by (SO_BINDTODEVICE)
	Transparent bool          // it may have any source address (IP_TRANSPARENT); takes CAP_NET_ADMIN or CAP_NET_RAW
}

// extra is one of them.
type extra struct {
	key    string // as a configuration has it
	option string // as the kernel has it
	set    func(fd int) error
	needs  string // what helps if it is not permitted
}

func (e Extras) each() (all []extra) {
	number := func(key, option string, level, name, value int, needs string) {
		if value != 0 {
			all = append(all, extra{key, option, func(fd int) error { return unix.SetsockoptInt(fd, level, name, value) }, needs})
		}
	}
	text := func(key, option string, level, name int, value, needs string) {
		if value != "" {
			all = append(all, extra{key, option, func(fd int) error { return unix.SetsockoptString(fd, level, name, value) }, needs})
		}
	}
	number("fastopen", "TCP_FASTOPEN", unix.IPPROTO_TCP, unix.TCP_FASTOPEN, e.FastOpen, "")
	number("defer_accept", "TCP_DEFER_ACCEPT", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int((e.DeferAccept+time.Second-1)/time.Second), "")
	text("congestion", "TCP_CONGESTION", unix.IPPROTO_TCP, unix.TCP_CONGESTION, e.Congestion,
		"the module tcp_"+e.Congestion+", and its name in net.ipv4.tcp_allowed_congestion_control or CAP_NET_ADMIN")
	number("mark", "SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, e.Mark, "CAP_NET_ADMIN")
	text("interface", "SO_BINDTODEVICE", unix.SOL_SOCKET, unix.SO_BINDTODEVICE, e.Interface, "an interface of this name here, and before Linux 5.7 CAP_NET_RAW")
	if e.Transparent {
		all = append(all, extra{"transparent", "IP_TRANSPARENT", setTransparent, "CAP_NET_ADMIN or CAP_NET_RAW"})
	}
	if e.TOS != 0 {
		all = append(all, extra{"tos", "IP_TOS", func(fd int) error { return setTOS(fd, e.TOS) }, ""})
	}
	return all
}

// setTOS sets what packets of either family carry: an IPv6 socket may have IPv4 clients.
func setTOS(fd, tos int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos); err != nil {
			return err
		}
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, tos)
}

func setTransparent(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
}

func (x extra) apply(fd int) error {
	err := x.set(fd)
	switch {
	case err == nil:
		return nil
	case x.needs != "":
		return fmt.Errorf("%s: set %s: %w (it needs %s)", x.key, x.option, err, x.needs)
	}
	return fmt.Errorf("%s: set %s: %w", x.key, x.option, err)
}

// apply sets them on a socket that is not bound yet.
func (e Extras) apply(fd int) error {
	for _, x := range e.each() {
		if err := x.apply(fd); err != nil {
			return err
		}
	}
	return nil
}

// Refused tries each option on a socket of its own that goes nowhere, and says which of
// them the kernel refuses, or this user's rights do.
func (e Extras) Refused() (refused []error) {
	for _, x := range e.each() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		}
		if err == nil {
			err = x.apply(fd)
			unix.Close(fd)
		}
		if err != nil {
			refused = append(refused, err)
		}
	}
	return refused
}
