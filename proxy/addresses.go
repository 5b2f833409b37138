package proxy

import "sluice/metrics"

// addresses are those of one listener that serve, by ID, in the order of the Plan: the
// listener's limits hold over all of them. A limit costs a look at each of them and
// acceptor for each connection.
type addresses []metrics.ID

// byListener finds them by the listener's name.
func (p *Plan) byListener() map[string]addresses {
	all := map[string]addresses{}
	for i := range p.Listeners {
		if l := &p.Listeners[i]; l.Phase == PhaseServing {
			all[l.Name] = append(all[l.Name], l.ID)
		}
	}
	return all
}

// others are all but id's; nil where there are none, or id's does not serve.
func (a addresses) others(l *Listener) (others []metrics.ID) {
	if len(a) < 2 || l.Phase != PhaseServing || l.MaxSessions == 0 && l.WaitForBackend == 0 && !l.Guard.bars() {
		return nil
	}
	for _, id := range a {
		if id != l.ID {
			others = append(others, id)
		}
	}
	return others
}

// first is the one that what is counted by listener goes by, such as the sessions of a
// source. After a reload that takes it out it is another, and these counts begin anew.
func (a addresses) first(l *Listener) metrics.ID {
	if len(a) == 0 || l.Phase != PhaseServing {
		return l.ID
	}
	return a[0]
}
