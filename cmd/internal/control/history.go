package control

import (
	"time"

	"sluice/metrics"
)

// keepHistory feeds the charts of the page with what is in the Plan now. It runs on the
// conducting goroutine, which closes all sockets, so none is closed meanwhile.
func (s *service) keepHistory(now time.Time) {
	var listeners []metrics.HistoryListener
	named := map[string]int{}
	for _, f := range s.state.fronts {
		if i, there := named[f.config.Name]; there {
			listeners[i].IDs = append(listeners[i].IDs, f.id) // one of them leaves
			continue
		}
		named[f.config.Name] = len(listeners)
		listeners = append(listeners, metrics.HistoryListener{
			Name: f.config.Name, Pool: f.config.Pool, IDs: []metrics.ID{f.id},
			Queue: func(seat int) (int, bool) {
				q, ok := f.group.Queue(seat)
				return q.Length, ok
			},
		})
	}
	var pools []metrics.HistoryPool
	for i := range s.state.plan.Pools {
		p := &s.state.plan.Pools[i]
		h := metrics.HistoryPool{Name: p.Name}
		for _, t := range p.Targets {
			h.Targets = append(h.Targets, t.ID)
		}
		pools = append(pools, h)
	}
	s.history.Sample(s.board, listeners, pools, s.state.seats.numbers(), now)
}
