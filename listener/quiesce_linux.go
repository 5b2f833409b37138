package listener

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Quiesce lets a listening socket begin no new handshake. Those under way
// complete, and the queue can be accepted to its end, so that the socket can be
// closed with nothing lost. A client whose SYN was dropped sends it again after
// a second and finds what serves the port by then. Every connection accepted
// after Quiesce must be given to Restore.
//
// While other members of the group are live, SYNs that the kernel chooses this
// socket for are dropped and not passed to them: steer away first
// (steering.Steering.Remove, steering.StepAside), unless the whole group leaves. SYNs
// that arrive with TTL 255 are not held back; handshakes by SYN cookie, which the kernel
// uses under a flood, are not completed.
//
// A unix socket has no handshakes: a connect is in the queue at once, or nowhere. So there
// is nothing to do there, see Group.Withdraw.
//
// The means is the least TTL that a socket takes: 255 shuts it, for packets of
// handshakes that the kernel already knows do not pass this check. A socket
// filter would be more exact, but newer kernels want CAP_NET_ADMIN for one.
func Quiesce(fd int) error {
	if err := setLeastTTL(fd, 255); err != nil {
		return fmt.Errorf("quiesce: %w", err)
	}
	return nil
}

// Restore undoes Quiesce on a connection that inherited it. What the client sent
// meanwhile was dropped, and its kernel sends it again.
func Restore(conn int) error {
	if err := setLeastTTL(conn, 0); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

func setLeastTTL(fd, ttl int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("SO_DOMAIN: %w", err)
	}
	if domain == unix.AF_UNIX {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl); err != nil { // on an IPv6 socket: for its IPv4 clients
		return fmt.Errorf("IP_MINTTL: %w", err)
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl); err != nil {
			return fmt.Errorf("IPV6_MINHOPCOUNT: %w", err)
		}
	}
	return nil
}
