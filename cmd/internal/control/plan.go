package control

import (
	"sluice/cmd/internal/config"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// planOf builds the Plan for c: what the data plane needs of it, with the addresses
// that each backend has now.
func planOf(c config.Config, generation uint64, addrs addresses) *proxy.Plan {
	plan := &proxy.Plan{Generation: generation, MaxSessions: c.Limits.MaxSessions}
	for _, l := range c.Listeners {
		plan.Listeners = append(plan.Listeners, proxy.Listener{
			Name: l.Name, Pool: l.Pool, Relay: relays[l.Relay], MaxSessions: l.MaxSessions,
			WaitForBackend: l.WaitForBackend, MaxWaiting: l.MaxWaiting,
			FirstByteTimeout: l.FirstByteTimeout, IdleTimeout: l.IdleTimeout, HalfClosedTimeout: l.HalfClosedTimeout,
			MaxDuration: l.MaxDuration, MaxDurationJitter: l.MaxDurationJitter,
		})
	}
	for _, p := range c.Pools {
		made := pool.Pool{
			Name: p.Name, Pick: policies[p.Pick], ConnectTimeout: p.ConnectTimeout, Retries: p.Retries, Source: p.Source,
		}
		for _, b := range p.Backends {
			made.Backends = append(made.Backends, pool.Backend{
				Name: b.Address, Addrs: addrs[b.Address], Weight: b.Weight, Backup: b.Backup,
			})
		}
		plan.Pools = append(plan.Pools, made)
	}
	return plan
}

var relays = map[string]proxy.Relay{
	config.RelayAuto: proxy.RelayAuto, config.RelaySplice: proxy.RelaySplice, config.RelayCopy: proxy.RelayCopy,
}

var policies = map[string]pool.Policy{
	config.PickRoundRobin: pool.RoundRobin, config.PickLeastSessions: pool.LeastSessions, config.PickSourceHash: pool.SourceHash,
}
