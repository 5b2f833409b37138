package control

import (
	"sluice/metrics"
)

// totals are what a state knows of its backends beside their addresses, so that a total
// does not fall when an address leaves: see package metrics, merged.go. Backends of which
// there is nothing to say are not in it.
type totals map[backendName]total

type backendName struct{ pool, backend string }

// total is that of a backend.
type total struct {
	merged   bool              // its addresses share their series
	left     []metrics.ID      // what its name no longer stands for, and sessions may still hold
	departed *metrics.Departed // what has left for good; the same in all states that have the backend
}

// sumUp makes the totals of s, which follows before and whose missing targets were dropped.
func (s *state) sumUp(before *state, l *ledger) {
	s.totals = totals{}
	configured := map[backendName]bool{}
	for i, p := range s.pools {
		addresses := map[string]int{}
		for _, t := range s.plan.Pools[i].Targets {
			addresses[t.Backend]++
		}
		for _, b := range p.config.Backends {
			name := backendName{p.config.Name, b.Address}
			configured[name] = true
			now := total{merged: s.merges(before, name, addresses[b.Address]), departed: before.totals[name].departed}
			if now.merged || now.departed != nil {
				s.totals[name] = now
			}
		}
	}
	for name, d := range l.targets.dropped {
		backend := backendName{name.pool, name.backend}
		if !configured[backend] {
			continue
		}
		t := s.totals[backend]
		t.left = append(t.left, d.id)
		if t.departed == nil {
			t.departed = new(metrics.Departed)
		}
		s.totals[backend] = t
	}
}

// merges says whether the addresses of a backend share their series. Once they do, a few
// less are no reason to end it: a sum over series of both kinds counts twice for a while.
func (s *state) merges(before *state, name backendName, addresses int) bool {
	limit := s.config.Admin.AddressSeries
	if limit == 0 {
		return false
	}
	if before.totals[name].merged && before.config.Admin.AddressSeries == limit {
		return addresses > limit/2
	}
	return addresses > limit
}

// tellMerged logs which backends begin or cease to share the series of their addresses.
func (s *service) tellMerged(before, next *state) {
	for name, t := range next.totals {
		if t.merged && !before.totals[name].merged {
			s.Log.Info("the addresses of a backend share their series from now on", "pool", name.pool, "backend", name.backend,
				"address_series", next.config.Admin.AddressSeries)
		}
	}
	for name, t := range before.totals {
		if t.merged && !next.totals[name].merged {
			s.Log.Info("the addresses of a backend have series of their own again", "pool", name.pool, "backend", name.backend)
		}
	}
}

// addUp keeps what the targets whose numbers are free did.
func (s *service) addUp(freed map[target]metrics.ID) {
	for name, id := range freed {
		if t := s.state.totals[backendName{name.pool, name.backend}]; t.departed != nil {
			s.board.Depart(id, t.departed)
		}
	}
}
