package health

import (
	"maps"

	"sluice/metrics"
)

// failures are those of checks, by metrics.CheckFailure.
type failures = [metrics.NumCheckFailures]uint64

// keepFailures adds up those of a target that leaves, for the total of its backend.
func (k *Keeper) keepFailures(t *target) {
	w := k.pools[t.in.config.Name]
	if w == nil || t.verdict.failures == (failures{}) {
		return
	}
	if w.left == nil {
		w.left = map[string]*failures{}
	}
	sum := w.left[t.Backend]
	if sum == nil {
		sum = new(failures)
		w.left[t.Backend] = sum
	}
	for i, n := range t.verdict.failures {
		sum[i] += n
	}
}

// dropLeft forgets the failures of backends that are configured no more.
func (k *Keeper) dropLeft() {
	for _, w := range k.pools {
		if w.check == nil {
			w.left = nil
		}
		if len(w.left) == 0 {
			continue
		}
		configured := map[string]bool{}
		for _, b := range w.config.Backends {
			configured[b.Address] = true
		}
		maps.DeleteFunc(w.left, func(backend string, _ *failures) bool { return !configured[backend] })
	}
}
