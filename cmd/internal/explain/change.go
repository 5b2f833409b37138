package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// Inherit brings to v, which a file would put in force, what targets have in now: sessions,
// whether they fail, what checks and operators say; and which sessions stand in the queues of
// its pools. The targets of v have a board and numbers of their own, so that nothing of it is
// seen outside.
//
// A weight in force follows the file's where it is neither an operator's nor that of a backend
// which is down. A backend that is new and checked is down until a check says something else.
func (v *View) Inherit(now *View) {
	type name struct {
		pool, backend string
		addr          netip.AddrPort
	}
	type known struct {
		id     metrics.ID
		weight int
	}
	had := map[name]known{}
	for i := range now.Plan.Pools {
		p := &now.Plan.Pools[i]
		for _, t := range p.Targets {
			had[name{p.Name, t.Backend, t.Addr}] = known{t.ID, t.Weight}
		}
	}
	queues := map[string]metrics.ID{}
	for i := range now.Pools {
		queues[now.Pools[i].Config.Name] = now.Pools[i].Queue
	}
	v.Health = map[metrics.ID]metrics.Health{}
	for i := range v.Plan.Pools {
		v.Pools[i].Queue = queues[v.Plan.Pools[i].Name]
		p, h := &v.Plan.Pools[i], &v.Pools[i].Config.Health
		checked := h.Check != config.CheckOff && h.Start != config.StartUp
		for _, t := range p.Targets {
			to := t.ID.Index()
			was, there := had[name{p.Name, t.Backend, t.Addr}]
			if !there {
				if checked {
					v.Targets.Weights()[to].Store(0)
				}
				continue
			}
			from := was.id.Index()
			v.Targets.Held()[to].Store(now.Targets.Held()[from].Load())
			v.Targets.Failing()[to].Swap(now.Targets.Failing()[from].Load())
			health := now.Health[was.id]
			v.Health[t.ID] = health
			weight := now.Targets.Weights()[from].Load()
			if health.Operator == nil || health.Operator.Weight == nil {
				weight = weight * int64(t.Weight) / int64(was.weight)
			}
			v.Targets.Weights()[to].Store(weight)
		}
	}
}

// none is how nothing is written.
const none = "none"

// changes says what differs for the client, a sentence each.
func changes(now, then []admin.Entrance) []string {
	all := []string{}
	find := func(entrances []admin.Entrance, name string) *admin.Entrance {
		if i := slices.IndexFunc(entrances, func(e admin.Entrance) bool { return e.Listener == name }); i >= 0 {
			return &entrances[i]
		}
		return nil
	}
	for i := range now {
		was, is := &now[i], find(then, now[i].Listener)
		if is == nil {
			all = append(all, was.Listener+": the listener is no more")
			continue
		}
		tries, next := [2]string{}, [2]string{} // a backend is no change if it is not known of both
		if known(was) && known(is) {
			tries = [2]string{was.Tries[0], is.Tries[0]}
			next = [2]string{strings.Join(was.Tries[1:], ", "), strings.Join(is.Tries[1:], ", ")}
		}
		for _, d := range []struct{ what, was, is string }{
			{"address", was.Address, is.Address}, {"outcome", outcomeOf(was), outcomeOf(is)},
			{"route", was.Route, is.Route}, {"pool", was.Pool, is.Pool}, {"pick", was.Pick, is.Pick},
			{"backend", tries[0], tries[1]}, {"then", next[0], next[1]},
			{"steering", was.Steering.Policy, is.Steering.Policy},
			{"acceptors", fmt.Sprint(len(was.Steering.Acceptors)), fmt.Sprint(len(is.Steering.Acceptors))},
		} {
			if d.was != d.is {
				all = append(all, fmt.Sprintf("%s: %s %s -> %s", is.Listener, d.what, cmp.Or(d.was, none), cmp.Or(d.is, none)))
			}
		}
	}
	for i := range then {
		if find(now, then[i].Listener) == nil {
			all = append(all, fmt.Sprintf("%s: the listener is new; the client %s", then[i].Listener, then[i].Text))
		}
	}
	return all
}

func outcomeOf(e *admin.Entrance) string { return strings.TrimSpace(e.Outcome + " " + e.Reason) }

// known says whether it is sure which backends come first.
func known(e *admin.Entrance) bool {
	return e.Exact && e.Outcome == admin.OutcomeBackend && len(e.Tries) > 0
}
