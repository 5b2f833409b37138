package control

import (
	"fmt"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/health"
)

// order puts in force what an operator says of a backend. It may be called by any
// goroutine, and changes no Plan.
func (s *service) order(o admin.BackendOrder) admin.Verdict {
	pools, err := s.health.Order(health.Order{
		Backend: o.Backend, Pool: o.Pool, Want: o.Want, Weight: o.Weight, For: o.For, Who: o.Who, Reason: o.Reason,
	})
	if err != nil {
		return s.verdict(false, err.Error(), nil)
	}
	s.movement.look()
	text := o.Want
	if o.Want == health.Weight {
		text = fmt.Sprintf("weight %d", o.Weight)
	}
	until := ""
	if o.For > 0 {
		until = fmt.Sprintf(" for %s", o.For)
	}
	v := s.verdict(true, fmt.Sprintf("%s: %s%s", o.Backend, text, until), nil)
	for _, p := range pools {
		v.Changes = append(v.Changes, fmt.Sprintf("in pool %s: %d sessions now", p, s.sessionsOf(p, o.Backend)))
	}
	return v
}

// sessionsOf counts the sessions of a backend.
func (s *service) sessionsOf(pool, backend string) int {
	inForce, _ := s.shown()
	sessions, _ := s.sessionsBy(inForce)
	return sessions[fmt.Sprintf("pool.%s.backends[%q]", pool, backend)]
}
