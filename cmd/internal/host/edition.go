package host

import (
	"fmt"

	"sluice/metrics"
	"sluice/proxy"
)

// edition is Orders on their way: prepared, then in force or forgotten. Its pointer
// tells which one an acceptor has. A nil edition names no seat.
type edition struct {
	Orders
	phases [metrics.MaxAcceptors]proxy.Phase
	seats  [metrics.MaxAcceptors]bool // that the Plan names
}

func newEdition(o Orders, inForce *edition) (*edition, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if inForce != nil && o.Plan.Generation <= inForce.Plan.Generation {
		return nil, fmt.Errorf("generation %d after %d", o.Plan.Generation, inForce.Plan.Generation)
	}
	e := &edition{Orders: o}
	for _, s := range o.Plan.Seats {
		e.seats[s.Number], e.phases[s.Number] = true, s.Phase
	}
	return e, nil
}

func (e *edition) has(seat int) bool { return e != nil && e.seats[seat] }

// leaves says whether a seat takes no new connections for good: by itself, or with
// the whole service.
func (e *edition) leaves(seat int) bool {
	if !e.has(seat) || e.phases[seat] >= proxy.PhaseLeaving {
		return true
	}
	for i := range e.Plan.Listeners {
		if e.Plan.Listeners[i].Phase < proxy.PhaseLeaving {
			return false
		}
	}
	return len(e.Plan.Listeners) > 0
}
