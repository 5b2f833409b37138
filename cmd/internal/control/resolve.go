package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/discovery"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// resolveWithin is what names get at a start and at a reload, before it goes on without
// those that have not answered. Their lookups go on, too.
const resolveWithin = 2 * time.Second

// addresses are those of each backend, by its address as configured.
type addresses map[string][]located

// located is one address of a backend.
type located struct {
	addr   netip.AddrPort
	weight int  // of an SRV record; 0 = the backend's
	backup bool // an SRV record of a higher priority number
}

// dnsSettings are what [dns] says. config has checked it.
func dnsSettings(d config.DNS) discovery.Settings {
	s := discovery.Settings{
		Search: d.Search, Timeout: d.Timeout, Attempts: d.Attempts, TTLMin: d.TTLMin, TTLMax: d.TTLMax, Hold: d.Hold, Concurrency: d.Concurrency,
	}
	for _, text := range d.Servers {
		if a, err := config.ParseServer(text); err == nil {
			s.Servers = append(s.Servers, a)
		}
	}
	return s
}

// resolver follows the names of a service's backends.
type resolver struct {
	*discovery.Resolver
	stop func()
}

// newResolver begins to look nothing up: see follow.
func newResolver(ctx context.Context, d config.DNS, log *slog.Logger) *resolver {
	r := &resolver{Resolver: discovery.NewResolver(dnsSettings(d), log)}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx)
	}()
	r.stop = func() { cancel(); <-ended }
	return r
}

// follow has the names of these configurations looked up, and no others any more.
func (r *resolver) follow(cs ...config.Config) {
	var names []discovery.Name
	for _, c := range cs {
		for _, p := range c.Pools {
			for _, b := range p.Backends {
				if host, _, is := nameOf(b); is {
					names = append(names, discovery.Name{Host: host, Interval: p.ResolveInterval})
				}
			}
		}
	}
	r.Want(names)
}

// await gives names that were never looked up a while. That names fail is no reason not to
// go on.
func (r *resolver) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	r.Wait(ctx)
}

// alsoLookUp has the names of c followed, too, and waits for those that are new. done ends
// that: it has those followed that are in force then.
func (s *service) alsoLookUp(ctx context.Context, c config.Config) (done func()) {
	inForce, _ := s.shown()
	s.resolver.follow(inForce.config, c)
	s.resolver.await(ctx)
	return func() {
		inForce, _ := s.shown()
		s.resolver.follow(inForce.config)
	}
}

// known are the addresses of all backends of a configuration.
func (r *resolver) known(c config.Config) addresses {
	all := addresses{}
	for _, p := range c.Pools {
		for _, b := range p.Backends {
			host, port, is := nameOf(b)
			if !is {
				a, _ := netip.ParseAddrPort(b.Address)
				if path, isUnix := b.UnixPath(); isUnix {
					a = pool.UnixAddr(path)
				}
				all[b.Address] = []located{{addr: a}}
				continue
			}
			if _, there := all[b.Address]; there {
				continue
			}
			all[b.Address] = nil // known to have none, see keepAddresses
			for _, t := range r.Targets(host) {
				l := located{netip.AddrPortFrom(t.Addr, t.Port), t.Weight, t.Backup}
				if t.Port == 0 {
					l.addr = netip.AddrPortFrom(t.Addr, port)
				}
				all[b.Address] = append(all[b.Address], l)
			}
		}
	}
	return all
}

// equal says that nothing differs.
func (a addresses) equal(b addresses) bool { return maps.EqualFunc(a, b, slices.Equal[[]located]) }

// nameOf is what a backend's address has to be looked up by; is = false if it is an IP
// address. config has checked it.
func nameOf(b config.Backend) (host string, port uint16, is bool) {
	if strings.HasPrefix(b.Address, config.ServicePrefix) {
		return strings.ToLower(b.Address), 0, true
	}
	if _, isUnix := b.UnixPath(); isUnix {
		return "", 0, false
	}
	if _, err := netip.ParseAddrPort(b.Address); err == nil {
		return "", 0, false
	}
	host, port = splitHostPort(b.Address)
	return strings.ToLower(host), port, true
}

// splitHostPort takes what config has checked.
func splitHostPort(s string) (string, uint16) {
	i := strings.LastIndexByte(s, ':')
	var port uint16
	_, _ = fmt.Sscan(s[i+1:], &port)
	return s[:i], port
}

// show is what metrics tell. A service that has no resolver yet knows no name.
func (r *resolver) show() metrics.DNS {
	d := metrics.DNS{Lookups: map[string]uint64{}}
	if r == nil {
		return d
	}
	facts, lookups := r.Facts()
	for result, n := range lookups {
		d.Lookups[string(result)] = n
	}
	for _, f := range facts {
		d.Names = append(d.Names, metrics.Name{Name: f.Host, Addresses: f.Addresses, Answered: f.Answered, Stale: f.Stale})
	}
	return d
}
