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
