package control

import (
	"runtime"
	"slices"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/health"
	"sluice/listener"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// shown is the state in force and the fronts that have left it and are not yet forgotten.
func (s *service) shown() (inForce *state, gone []*front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, slices.Clone(s.gone)
}

// snapshot gathers everything that is shown. It may be called at any time, by any
// goroutine, and waits for no acceptor.
func (s *service) snapshot() metrics.Snapshot {
	st, gone := s.shown()
	t := metrics.Topology{
		Service: metrics.Service{
			Version: s.Version, GoVersion: runtime.Version(), Name: s.Config.Instance, Mode: s.Config.Acceptors.Mode,
			Started: s.started, Ready: s.ready.Load(), Draining: s.draining.Load(), MaxSessions: st.config.Limits.MaxSessions, Metrics: st.config.Admin.Metrics,
			NeedsBackend: st.config.Admin.Ready == config.ReadyBackend, DNS: s.resolver.show(), Files: s.showFiles(),
			LinesLost: s.linesLost(), AccessLog: s.access.Stats(), AdminShed: s.admin.Shed(),
			Config: metrics.Config{Path: s.Path, SHA256: st.sha256, Generation: st.generation, Reload: s.reloads.show()},
		},
		Acceptors: s.host.Placement(),
		Workers:   s.host.Workers(),
	}
	for _, f := range st.fronts {
		s.show(&t, st, f, f.leaving != nil)
	}
	for _, f := range gone {
		s.show(&t, st, f, true)
	}
	targets, pools := s.health.Snapshot()
	t.Health = targets
	for _, p := range st.pools {
		t.Pools = append(t.Pools, st.showPool(p, pools[p.config.Name]))
	}
	if n, err := metrics.ReadNetns(); err == nil {
		t.Netns = n
	}
	return metrics.TakeSnapshot(s.board, &s.window, t, time.Now())
}

// show adds a front. One that leaves has the name of its successor, if it has one, and is
// shown as a part of it: a total does not go backwards.
func (s *service) show(t *metrics.Topology, st *state, f *front, leaving bool) {
	for i := range t.Listeners {
		if l := &t.Listeners[i]; l.ID == f.id || slices.Contains(l.Earlier, f.id) {
			return // it leaves at this moment, and is in both lists
		} else if l.Name == f.config.Name {
			l.Earlier = append(l.Earlier, f.id)
			if !leaving {
				l.Add(f.group.Address(), f.steered.shown(), s.queues(f.group))
			}
			return
		}
	}
	if leaving && f.leaving.stage == gone {
		return
	}
	t.Listeners = append(t.Listeners, metrics.Listener{
		ID: f.id, Name: f.config.Name, Leaving: leaving, Bind: f.config.Bind, Address: f.group.Address(), Addresses: []string{f.group.Address()}, Pool: f.config.Pool, Proxy: showProxy(f.config), Routes: st.showRoutes(f.config),
		MaxSessions: f.config.MaxSessions, Steering: f.steered.shown(), Queues: s.queues(f.group),
	})
}

func (s *state) showPool(p pooled, h health.PoolHealth) metrics.Pool {
	m := metrics.Pool{ID: p.id, Name: p.config.Name, Pick: p.config.Pick, Queue: p.config.Queue, Panic: h.Panic}
	i := slices.IndexFunc(s.pools, func(q pooled) bool { return q.id == p.id })
	targets := s.plan.Pools[i].Targets // in the order of the backends
	for _, b := range p.config.Backends {
		sum := s.totals[backendName{p.config.Name, b.Address}]
		mb := metrics.Backend{
			Name: b.Address, Weight: b.Weight, Backup: b.Backup, MaxSessions: p.config.MaxSessionsOf(b),
			Merged: sum.merged, Left: sum.left, Departed: sum.departed, LeftFailures: h.Left[b.Address],
		}
		for len(targets) > 0 && targets[0].Backend == b.Address {
			mb.Targets = append(mb.Targets, metrics.Target{ID: targets[0].ID, Address: pool.AddressText(targets[0].Addr)})
			targets = targets[1:]
		}
		m.Backends = append(m.Backends, mb)
	}
	return m
}

// queues reads a group's accept queues, by acceptor. A closed group has none.
func (s *service) queues(g *listener.Group) map[int]metrics.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	queues := map[int]metrics.Queue{}
	for _, seat := range g.Seats() {
		if q, ok := g.Queue(seat); ok {
			queues[seat] = metrics.Queue{Length: uint64(q.Length), Limit: uint64(q.Limit), Drops: q.Drops}
		}
	}
	return queues
}

// linesLost is how many lines the log has lost.
func (s *service) linesLost() uint64 {
	if s.Lost == nil {
		return 0
	}
	return s.Lost()
}
