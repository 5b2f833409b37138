package control

import (
	"runtime"
	"time"

	"sluice/listener"
	"sluice/metrics"
)

// snapshot gathers everything that is shown. It may be called at any time, by any
// goroutine, and waits for no acceptor.
func (s *service) snapshot() metrics.Snapshot {
	plan := s.plan.Load()
	t := metrics.Topology{
		Service: metrics.Service{
			Version: s.Version, GoVersion: runtime.Version(), Name: s.Config.Instance, Mode: s.Config.Acceptors.Mode,
			Started: s.started, Ready: s.ready.Load(), Draining: s.draining.Load(), MaxSessions: plan.MaxSessions,
			Config: metrics.Config{Path: s.Path, SHA256: s.SHA256, Generation: plan.Generation},
		},
		Acceptors: s.host.placement(),
		Health:    s.watchdog.health(),
		Workers:   s.host.workers(),
	}
	for i, l := range s.Config.Listeners {
		g := s.groups[i]
		m := metrics.Listener{
			Name: l.Name, Bind: l.Bind, Address: g.Addr().String(), Pool: l.Pool, MaxSessions: l.MaxSessions,
			Steering: s.steered[i].info,
			Queues:   s.queues(g),
		}
		t.Listeners = append(t.Listeners, m)
	}
	for i, p := range plan.Pools {
		m := metrics.Pool{Name: p.Name, Pick: s.Config.Pools[i].Pick}
		for _, b := range p.Backends {
			mb := metrics.Backend{Name: b.Name, Weight: b.Weight, Backup: b.Backup}
			for _, a := range b.Addrs {
				mb.Addresses = append(mb.Addresses, a.String())
			}
			m.Backends = append(m.Backends, mb)
		}
		t.Pools = append(t.Pools, m)
	}
	if n, err := metrics.ReadNetns(); err == nil {
		t.Netns = n
	}
	return metrics.TakeSnapshot(s.board, &s.window, t, time.Now())
}

// queues reads a group's accept queues, by acceptor. A closed group has none.
func (s *service) queues(g *listener.Group) map[int]metrics.Queue {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	queues := map[int]metrics.Queue{}
	for i := range g.Len() {
		if q, err := listener.QueueOf(g.FD(i)); err == nil {
			queues[i] = metrics.Queue{Length: uint64(q.Length), Limit: uint64(q.Limit), Drops: q.Drops}
		}
	}
	return queues
}
