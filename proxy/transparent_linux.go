package proxy

import (
	"net/netip"
	"syscall"

	"sluice/metrics"
)

// A Transparent pool connects in the client's name: with its address as the source and a
// port that the kernel chooses, of those that no connection from there to the target has.
// Answers come back to this machine only if it is told to take them (README, "In the client's name").
//
// Whether an address will do depends on the client, so one that will not must not speak
// against the target. So that is no_source, which ends this session and no more:
//
//	bind     any errno       a link-local address, say
//	connect  EINVAL          127.0.0.1 towards another machine
//	         done            a network's broadcast address, in whose place the kernel puts this machine's
//	connect  EADDRNOTAVAIL   all ports that this client may have towards the target are in use: no_ports
//
// Probes have no client. They come from this machine's own address, and so do checks.

// beginAs connects a prepared socket in a client's name.
func (a *Acceptor) beginAs(fd int, p *pooled, client netip.Addr, to netip.AddrPort) (metrics.ConnectError, syscall.Errno) {
	client = client.Unmap()
	errno := syscall.EADDRNOTAVAIL // a PROXY header may name 0.0.0.0, which to bind(2) is this machine
	if !client.IsUnspecified() && !client.IsMulticast() {
		errno = a.sys.BindAs(fd, client)
	}
	if errno == 0 {
		switch errno = a.sys.Connect(fd, to); {
		case errno == syscall.EINPROGRESS && a.sys.LocalAddr(fd).Addr() == client:
			return 0, errno
		case errno == syscall.EINPROGRESS:
			errno = syscall.EADDRNOTAVAIL
		case errno != syscall.EINVAL:
			return classifyConnect(errno), errno
		}
	}
	if errno == syscall.EPERM || errno == syscall.EACCES { // a right was taken away: it is not the address
		return classifyConnect(errno), errno
	}
	p.origins.missing = client
	return metrics.ConnectNoSource, errno
}
