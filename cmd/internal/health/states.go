package health

import "sluice/metrics"

// States are those of a pool's targets; nil = there is no such pool.
func (k *Keeper) States(pool string) map[metrics.ID]metrics.TargetState {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.pools[pool]
	if w == nil {
		return nil
	}
	states := make(map[metrics.ID]metrics.TargetState, len(w.targets))
	for _, t := range w.targets {
		states[t.ID] = t.state
	}
	return states
}

// Cuts are the targets of a pool whose sessions are to end now.
func (k *Keeper) Cuts(pool string) (cuts []metrics.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.pools[pool]; w != nil {
		for _, t := range w.targets {
			if w.cuts(t) {
				cuts = append(cuts, t.ID)
			}
		}
	}
	return cuts
}
