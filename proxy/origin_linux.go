package proxy

import (
	"net/netip"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

// A pool may have several source addresses, and a range of ports for them. The kernel
// chooses a port from net.ipv4.ip_local_port_range, some 28,000 for each source and target;
// in a range of the pool's own the acceptor chooses, one after the other, as HAProxy does.
// A port is shared with connections to elsewhere, so only the target's count.
//
//	source 1 ── no port left ──► source 2 ── ... ──► no_ports: the session waits, and asks again
//	   ▲ the next session begins behind the source that the last one got
//
// Where there are several, one that had no port left is passed over for a moment: to find
// that out the kernel looks at all of its ports.
type origins struct {
	turn    int
	barred  []barred // by source
	port    uint32   // the last that was tried, counted from the lowest
	missing netip.Addr
}

// barred is a source that has no port left towards a target, and the clock until which it
// is passed over there.
type barred struct {
	to    netip.AddrPort
	until int64
}

const (
	barredFor = 100 * time.Millisecond
	// portTries bounds the ports of a range that a session tries with one source before
	// it goes on, at five system calls each: 0.1 ms. Ports come free in the order in which
	// they are tried, so mostly the first one is free.
	portTries = 16
)

// newOrigins are those of a pool and acceptor: acceptors begin in different parts of the
// range, so that they seldom meet.
func newOrigins(p *pooled, seat int) origins {
	o := origins{barred: make([]barred, len(p.Sources))}
	if n := p.SourcePorts.Count(); n > 0 {
		o.port = uint32(seat * (n/metrics.MaxAcceptors + 1) % n)
	}
	return o
}

// reaches says whether connections of p can go to an address of a family: from a source
// of the other one they can't, and a unix socket has none.
func (p *pooled) reaches(family int) bool {
	if len(p.Sources) == 0 || family == syscall.AF_UNIX {
		return true
	}
	for _, s := range p.Sources {
		if familyOf(s) == family {
			return true
		}
	}
	return false
}

func familyOf(a netip.Addr) int { return sys.FamilyOf(netip.AddrPortFrom(a, 0)) }

// beginFrom connects a socket from one of p's sources. What it returns may be another
// socket, or -1: one whose connect has failed has a port, and is of no more use.
func (a *Acceptor) beginFrom(fd int, p *pooled, to netip.AddrPort, buffer int) (int, metrics.ConnectError, syscall.Errno) {
	class, errno := metrics.ConnectNoPorts, syscall.EADDRNOTAVAIL
	o, used, full := &p.origins, false, false
	for i := range p.Sources {
		k := (o.turn + i) % len(p.Sources)
		if familyOf(p.Sources[k]) != sys.FamilyOf(to) || o.barred[k].to == to && o.barred[k].until > a.now {
			continue
		}
		for range max(1, min(portTries, p.SourcePorts.Count())) {
			if used {
				a.sys.Close(fd)
				var e syscall.Errno
				if fd, e = a.socketTo(p, to); e != 0 {
					return -1, classifyConnect(e), e
				}
				if e := a.prepare(fd, sys.FamilyOf(to), p, buffer); e != 0 {
					return fd, classifyConnect(e), e
				}
			}
			used = true
			class, errno = a.from(fd, p, k, to)
			if class == metrics.ConnectNoSource {
				o.missing = p.Sources[k]
				break
			}
			if errno == 0 || class != metrics.ConnectNoPorts {
				o.turn = k + 1
				return fd, class, errno
			}
		}
		if full = full || class == metrics.ConnectNoPorts; class == metrics.ConnectNoPorts && len(p.Sources) > 1 {
			o.barred[k] = barred{to, a.now + int64(barredFor)}
		}
	}
	if full {
		class = metrics.ConnectNoPorts // another that is not here is no reason not to wait
	}
	return fd, class, errno
}

// from makes one try with the source at k.
func (a *Acceptor) from(fd int, p *pooled, k int, to netip.AddrPort) (metrics.ConnectError, syscall.Errno) {
	var errno syscall.Errno
	if n := p.SourcePorts.Count(); n > 0 {
		p.origins.port = (p.origins.port + 1) % uint32(n)
		errno = a.sys.BindPort(fd, netip.AddrPortFrom(p.Sources[k], p.SourcePorts.Low+uint16(p.origins.port)))
	} else {
		errno = a.sys.Bind(fd, p.Sources[k])
	}
	switch {
	case errno == syscall.EADDRNOTAVAIL || errno == syscall.ENODEV:
		return metrics.ConnectNoSource, errno
	case errno != 0:
		return classifyConnect(errno), errno
	}
	return a.way(fd, p, to)
}

// way connects a socket that is bound as it should be.
func (a *Acceptor) way(fd int, p *pooled, to netip.AddrPort) (metrics.ConnectError, syscall.Errno) {
	errno := a.sys.Connect(fd, to)
	switch {
	case errno == syscall.EINPROGRESS:
		return 0, errno
	case errno == syscall.EADDRNOTAVAIL && !a.sourceTo(p, to).IsValid():
		return metrics.ConnectNoFamily, errno
	}
	return classifyConnect(errno), errno
}
