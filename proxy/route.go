package proxy

import "sluice/metrics"

// A session that took a route counts there until it ends, whatever becomes of the route
// meanwhile: its number is no other's until then (Active).

// takeRoute leads a session to the pool of a route.
func (a *Acceptor) takeRoute(s *session, to *Route) {
	a.openings.of(s).routed = to.Pool
	s.route = uint16(to.ID.Index()) + 1
	c := a.routeOf(s)
	c.Active.Add(1)
	c.Sessions.Add(1)
	a.noteRoute(s, to.ID)
}

// countRouted counts bytes that half d has moved.
func (a *Acceptor) countRouted(s *session, d direction, n int) {
	c := a.routeOf(s)
	if d == toBackend {
		c.Received.Add(uint64(n))
	} else {
		c.Sent.Add(uint64(n))
	}
}

func (a *Acceptor) leaveRoute(s *session) {
	a.routeOf(s).Active.Add(-1)
	s.route = 0
}

// routeOf are the cells of the route that a session took.
func (a *Acceptor) routeOf(s *session) *metrics.RouteCells {
	return a.Board.Route(a.Seat, metrics.ID(s.route-1))
}
