package proxy

import (
	"fmt"

	"sluice/metrics"
)

// Check says whether all that a Plan refers to is there, and its numbers are in
// range: they become offsets on the board.
func (p *Plan) Check() error {
	seats := map[int]bool{}
	for _, s := range p.Seats {
		if s.Number < 0 || s.Number >= metrics.MaxAcceptors || seats[s.Number] || s.Phase >= numPhases {
			return fmt.Errorf("bad seat %d in phase %d", s.Number, s.Phase)
		}
		seats[s.Number] = true
	}
	pools, listeners, targets := idSet{limit: metrics.MaxPools}, idSet{limit: metrics.MaxListeners}, idSet{limit: metrics.MaxTargets}
	for i := range p.Pools {
		pl := &p.Pools[i]
		if !pools.take(pl.ID) {
			return fmt.Errorf("pool %q: bad id %#x", pl.Name, uint64(pl.ID))
		}
		for _, t := range pl.Targets {
			if !targets.take(t.ID) {
				return fmt.Errorf("pool %q: target %s: bad id %#x", pl.Name, t.Addr, uint64(t.ID))
			}
		}
	}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if !listeners.take(l.ID) || l.Phase >= numPhases {
			return fmt.Errorf("listener %q: bad id %#x or phase %d", l.Name, uint64(l.ID), l.Phase)
		}
		if !pools.has(l.Pool) {
			return fmt.Errorf("listener %q: no pool %#x", l.Name, uint64(l.Pool))
		}
		for _, r := range l.Preamble.Routes {
			if !pools.has(r.Pool) || !r.ID.Valid(metrics.MaxRoutes) {
				return fmt.Errorf("listener %q, route %q: no pool %#x, or bad id %#x", l.Name, r.Name, uint64(r.Pool), uint64(r.ID))
			}
		}
	}
	return nil
}

// idSet is the ids of one kind. No two may have the same index: they would share cells.
type idSet struct {
	limit uint32
	taken map[uint32]metrics.ID
}

func (s *idSet) take(id metrics.ID) bool {
	if _, twice := s.taken[id.Index()]; twice || !id.Valid(s.limit) {
		return false
	}
	if s.taken == nil {
		s.taken = map[uint32]metrics.ID{}
	}
	s.taken[id.Index()] = id
	return true
}

func (s *idSet) has(id metrics.ID) bool {
	found, ok := s.taken[id.Index()]
	return ok && found == id
}
