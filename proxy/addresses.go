package proxy

import "sluice/metrics"

// otherAddresses finds for a listener of the Plan those of the same name, which are the
// same listener on other addresses: its limits hold over all of them. Only those that
// serve count. A listener without limits, or with one address, has nil. The cost of a
// limit is a look at each address and acceptor for each connection.
func (p *Plan) otherAddresses() func(Listener) []metrics.ID {
	byName := map[string][]metrics.ID{}
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Phase == PhaseServing && (l.MaxSessions > 0 || l.WaitForBackend > 0) {
			byName[l.Name] = append(byName[l.Name], l.ID)
		}
	}
	return func(l Listener) (others []metrics.ID) {
		all := byName[l.Name]
		if len(all) < 2 || l.Phase != PhaseServing {
			return nil
		}
		for _, id := range all {
			if id != l.ID {
				others = append(others, id)
			}
		}
		return others
	}
}
