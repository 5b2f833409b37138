package control

import (
	"log/slog"
	"net/netip"

	"sluice/cmd/internal/config"
	"sluice/proxy/pool"
)

// listensOn are the addresses whose connections the front may take; 0.0.0.0 and :: stand
// for all of a family.
func (f *front) listensOn() []netip.AddrPort {
	if f.group == nil || f.group.Netns() != "" { // backends are connected to from this namespace
		return nil
	}
	if path, is := f.bind.UnixPath(); is {
		return []netip.AddrPort{pool.UnixAddr(path)}
	}
	if !f.group.Addr().IsValid() {
		return nil
	}
	at := f.group.Addr()
	all := []netip.AddrPort{at}
	if at.Addr() == netip.IPv6Unspecified() && !f.config.IPv6Only {
		all = append(all, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
	}
	return all
}

// tellDoubts warns of what the machine as it is now does not let a configuration do.
func tellDoubts(log *slog.Logger, c config.Config) {
	for _, doubt := range append(c.Doubts(), Fallbacks(c)...) {
		log.Warn(doubt)
	}
}
