package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/cmd/internal/config"
)

// resolveTimeout bounds one round of lookups, so that a silent name server delays a
// start by no more than this.
const resolveTimeout = 2 * time.Second

// resolver keeps the addresses of every backend that is given by name. A name that
// stops resolving keeps the addresses it had.
type resolver struct {
	log    *slog.Logger
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	names  []name
	addrs  addresses
	failed map[string]bool // and was told of
}

// addresses are those of each backend, HOST:PORT as configured.
type addresses map[string][]netip.AddrPort

type name struct {
	backend, host string
	port          uint16
	interval      time.Duration
	due           time.Time
}

// newResolver knows of each name what was known before; nil = nothing.
func newResolver(c config.Config, log *slog.Logger, before addresses) *resolver {
	r := &resolver{log: log, addrs: addresses{}, failed: map[string]bool{}}
	r.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	for _, p := range c.Pools {
		for _, b := range p.Backends {
			if a, err := netip.ParseAddrPort(b.Address); err == nil {
				r.addrs[b.Address] = []netip.AddrPort{a}
				continue
			}
			if known, is := before[b.Address]; is {
				r.addrs[b.Address] = known
			}
			host, port := splitHostPort(b.Address)
			r.names = append(r.names, name{backend: b.Address, host: host, port: port, interval: p.ResolveInterval})
		}
	}
	return r
}

// splitHostPort takes what config has checked.
func splitHostPort(s string) (string, uint16) {
	i := strings.LastIndexByte(s, ':')
	var port uint16
	_, _ = fmt.Sscan(s[i+1:], &port)
	return s[:i], port
}

// run looks up the names as they fall due, until ctx ends, and sends all addresses
// when one has changed. It is a goroutine of its own: a name server that does not
// answer must hold up nothing else.
func (r *resolver) run(ctx context.Context, changed chan<- addresses) {
	for {
		due, ok := r.next()
		if !ok {
			return
		}
		select {
		case now := <-time.After(time.Until(due)):
			if !r.refresh(ctx, now) {
				continue
			}
		case <-ctx.Done():
			return
		}
		select {
		case changed <- r.known():
		case <-ctx.Done():
			return
		}
	}
}

// known are the addresses of all backends.
func (r *resolver) known() addresses { return maps.Clone(r.addrs) }

// resolving is a resolver at work.
type resolving struct {
	changed chan addresses
	stop    func()
}

func (s *service) resolve(ctx context.Context) resolving {
	ctx, cancel := context.WithCancel(ctx)
	r := resolving{make(chan addresses), cancel}
	go s.resolver.run(ctx, r.changed)
	return r
}

// refresh looks up the names that are due and says whether any address changed.
func (r *resolver) refresh(ctx context.Context, now time.Time) (changed bool) {
	limited, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found := make([][]netip.Addr, len(r.names))
	errs := make([]error, len(r.names))
	var wg sync.WaitGroup
	for i := range r.names {
		n := &r.names[i]
		if now.Before(n.due) {
			continue
		}
		n.due = now.Add(n.interval)
		wg.Go(func() { found[i], errs[i] = r.lookup(limited, n.host) })
	}
	wg.Wait()
	if ctx.Err() != nil { // broken off: that says nothing of the names
		return false
	}
	for i, n := range r.names {
		if errs[i] != nil || len(found[i]) == 0 {
			if errs[i] != nil && !r.failed[n.backend] {
				r.failed[n.backend] = true
				r.log.Warn("backend name does not resolve", "backend", n.backend, "keeping", len(r.addrs[n.backend]), "error", errs[i])
			}
			continue
		}
		if r.failed[n.backend] {
			delete(r.failed, n.backend)
			r.log.Info("backend name resolves again", "backend", n.backend)
		}
		var addrs []netip.AddrPort
		for _, a := range found[i] {
			addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), n.port))
		}
		slices.SortFunc(addrs, netip.AddrPort.Compare)
		if !slices.Equal(addrs, r.addrs[n.backend]) {
			r.addrs[n.backend] = addrs
			changed = true
		}
	}
	return changed
}

// next is when the first name is due; ok is false without names.
func (r *resolver) next() (due time.Time, ok bool) {
	for _, n := range r.names {
		if !ok || n.due.Before(due) {
			due, ok = n.due, true
		}
	}
	return due, ok
}
