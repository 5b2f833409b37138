package control

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"sluice/cmd/internal/config"
	"sluice/listener/netns"
)

// network is the namespace that a pool of s holds, if c leads to the same path; nil = there is no such
// pool, or it is sluice's own.
func (s *state) network(c config.Pool) *netns.Namespace {
	p, ok := s.pool(c.Name)
	if !ok || p.config.NetnsPath() != c.NetnsPath() {
		return nil
	}
	return p.network
}

// openNetworks opens the namespaces of the configured pools, each once. One that is held already
// and has gone from its path goes on; another one in its place is taken.
func (s *state) openNetworks() error {
	held := map[uint64]*netns.Namespace{}
	for _, p := range s.pools {
		if p.network != nil {
			held[p.network.Number] = p.network
		}
	}
	for i := range s.config.Pools {
		p := &s.pools[i] // they come first there
		path := p.config.NetnsPath()
		if n := held[netns.Number(path)]; n != nil {
			p.network = n
			continue
		}
		n, err := netns.Open(path)
		switch {
		case err == nil:
			p.network, held[number(n)] = n, n
		case p.network == nil:
			return fmt.Errorf("pool.%s.netns: %w", p.config.Name, err)
		}
	}
	return nil
}

// moved says whether another namespace has taken the place of one that a pool holds.
func (s *state) moved() bool {
	return slices.ContainsFunc(s.pools[:len(s.config.Pools)], func(p pooled) bool {
		n := netns.Number(p.config.NetnsPath())
		return n != 0 && n != number(p.network)
	})
}

// letGoAfter is when the loops run the new Plan, and most checks of before have ended.
const letGoAfter = time.Second

// letGoNetworks closes the namespaces that next has no more, once nothing uses them. The runtime does that, which
// an idle service would hardly have look.
func letGoNetworks(before, next *state) {
	has := next.networks()
	for number := range before.networks() {
		if has[number] == nil {
			time.AfterFunc(letGoAfter, runtime.GC)
			return
		}
	}
}

// networks are those of all pools, by number, and sluice's own.
func (s *state) networks() map[uint64]*os.File {
	all := map[uint64]*os.File{}
	for _, p := range s.pools {
		if n := p.network; n != nil {
			all[n.Number], all[0] = n.File, n.Home
		}
	}
	return all
}

// number is that of n as Plans have it.
func number(n *netns.Namespace) uint64 {
	if n == nil {
		return 0
	}
	return n.Number
}
