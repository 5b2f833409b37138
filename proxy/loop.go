package proxy

import (
	"net/netip"
	"slices"
	"time"

	"sluice/proxy/pool"
)

// A backend may be a listener of the service itself: its name comes to mean this machine,
// or its address moves here. Each session would then be the client of the next, until no
// descriptor is left. So a target with the port of a listener is looked at before it is
// dialed: afterwards would be too late, the next session stands in the queue by then.
//
//	the listener's address is     the target's is          it is the service's own
//	the same                      any but link-local       always
//	the same, or all              link-local, or another   if it is this machine's: the kernel is asked
//	another                       any                      no
//
// A target of another port costs nothing, not even this look.
type selfish struct {
	to     netip.AddrPort
	always bool
	is     bool  // what the kernel said
	asked  int64 // clock at which; 0 = never
}

// askAgain is how long the kernel's answer holds: four system calls each time. In so long
// a loop through an address that has just come takes a few hundred sessions.
const askAgain = 20 * time.Millisecond

// selfishOf are those of a pool's targets, in their order, that may be one of the
// addresses that the service itself listens on; nil if none may.
func selfishOf(p *pool.Pool, own []Own) (found []*selfish) {
	if len(own) == 0 {
		return nil
	}
	ports := make(map[uint16]bool, len(own))
	for _, o := range own {
		if mayBe(o, p) {
			ports[o.Addr.Port()] = true
		}
	}
	for i := range p.Targets {
		if !ports[p.Targets[i].Addr.Port()] {
			continue
		}
		to := meant(p.Targets[i].Addr, p.Sources)
		for _, o := range own {
			s := covers(o.Addr, to)
			if s == nil || !mayBe(o, p) {
				continue
			}
			if found == nil {
				found = make([]*selfish, len(p.Targets))
			}
			if found[i] == nil || s.always {
				found[i] = s
			}
		}
	}
	return found
}

// meant is where a connect to an address leads: the kernel takes one to 0.0.0.0 or :: for
// one to the source, of several the first is looked at, or to the loopback.
func meant(to netip.AddrPort, sources []netip.Addr) netip.AddrPort {
	addr := to.Addr().Unmap()
	source := slices.IndexFunc(sources, func(s netip.Addr) bool { return s.Is4() == addr.Is4() })
	switch {
	case !addr.IsUnspecified():
	case source >= 0:
		addr = sources[source]
	case addr.Is4():
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		addr = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(addr, to.Port())
}

// covers says whether a connection to an address may reach a listening one; nil = it can't.
func covers(own, to netip.AddrPort) *selfish {
	o, t := own.Addr().Unmap(), to.Addr()
	switch {
	case own.Port() != to.Port() || o.Is4() != t.Is4():
		return nil
	case o.IsUnspecified():
		return &selfish{to: to, always: t.IsLoopback()}
	case o.WithZone("") == t.WithZone(""):
		return &selfish{to: to, always: !t.IsLinkLocalUnicast() && !t.IsLinkLocalMulticast()}
	}
	return nil
}

// isOwn says whether a target is a listener of this service.
func (a *Acceptor) isOwn(p *pooled, target int) bool {
	s := p.own[target]
	if s == nil || s.always {
		return s != nil
	}
	if s.asked == 0 || a.now-s.asked >= int64(askAgain) {
		s.asked = a.now
		s.is = a.sourceTo(p, s.to) == s.to.Addr().WithZone("")
	}
	return s.is
}
