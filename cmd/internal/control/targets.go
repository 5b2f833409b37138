package control

import (
	"log/slog"
	"net/netip"

	"sluice/cmd/internal/config"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// listensOn are the addresses whose connections the front may take; 0.0.0.0 and :: stand
// for all of a family.
func (f *front) listensOn() []proxy.Own {
	if f.group == nil {
		return nil
	}
	if path, is := f.bind.UnixPath(); is {
		return []proxy.Own{{Addr: pool.UnixAddr(path)}}
	}
	if !f.group.Addr().IsValid() {
		return nil
	}
	at := f.group.Addr()
	all := []proxy.Own{{Addr: at, Netns: f.network}}
	if at.Addr() == netip.IPv6Unspecified() && !f.config.IPv6Only {
		all = append(all, proxy.Own{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), Netns: f.network})
	}
	return all
}

// tellDoubts warns of what the machine as it is now does not let a configuration do.
func tellDoubts(log *slog.Logger, c config.Config) {
	for _, doubt := range append(c.Doubts(), Fallbacks(c)...) {
		log.Warn(doubt)
	}
}
