package explain

import (
	"slices"

	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// foreseenTries is how many targets are shown: with each that refuses, the next one is less
// likely.
const foreseenTries = 4

// tries finds out which targets the client would be given.
func (x *explaining) tries() {
	if x.pool.Pick == pool.SourceHash || x.pool.Pick == pool.First {
		ways, full := pool.NewPicker(x.Plan.Prepared(x.pool.ID), 0, pool.StateOf(x.Targets, &x.Clock)).Foresee(x.client, foreseenTries)
		for _, i := range ways {
			x.Tries = append(x.Tries, x.address(i))
		}
		x.Exact, x.full, x.nobody = true, full, len(ways) == 0 && !full
		return
	}
	x.nobody = !slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool {
		return x.pool.Reaches(x.client, &t) && x.Targets.Weights()[t.ID.Index()].Load() != 0
	})
	if x.Ask == nil || x.draws() {
		return
	}
	answers, late := x.Ask(proxy.Ways{Pool: x.pool.ID, Client: x.client, Most: foreseenTries})
	x.silent = late
	byID := map[metrics.ID]int{}
	for i, t := range x.pool.Targets {
		byID[t.ID] = i
	}
	for i := range x.Steering.Acceptors {
		a := &x.Steering.Acceptors[i]
		answer, came := answers[a.Number]
		if !came || slices.Contains(late, a.Number) {
			if a.State == Ready {
				a.State = silent
			}
			continue
		}
		for _, id := range answer.Ways {
			if i, there := byID[id]; there { // else it runs another Plan
				a.Tries = append(a.Tries, x.address(i))
			}
		}
		x.full = x.full || answer.Full && len(answer.Ways) == 0
	}
	x.agree()
}

// draws says whether the pool's picker draws: then the pick can't be known.
func (x *explaining) draws() bool { return x.pool.Pick == pool.Random2 || x.pool.Pick == pool.Fastest }

// agree notes what all acceptors that may take the client would give it.
func (x *explaining) agree() {
	var all [][]string
	for _, a := range x.Steering.Acceptors {
		if a.State == Ready && (x.Steering.Next == nil || *x.Steering.Next == a.Number) {
			all = append(all, a.Tries)
		}
	}
	if len(all) == 0 || len(all[0]) == 0 {
		return
	}
	for _, tries := range all {
		if !slices.Equal(tries, all[0]) {
			return
		}
	}
	x.Tries = slices.Clone(all[0])
}
