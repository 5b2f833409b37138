package pool

import "sluice/metrics"

// State is what the board says of targets, by index. All of it may change at any time.
type State struct {
	Held    []metrics.Gauge   // sessions that hold it over all acceptors
	Weights []metrics.Gauge   // the weight in force, 0 = nobody new
	Failing []metrics.Failing // not 0 = it did not take a connection: ranked last
}

// StateOf is the board's.
func StateOf(b *metrics.Board) State {
	return State{Held: b.Held(), Weights: b.Weights(), Failing: b.Failing()}
}

// part is the weight with which a target takes part in turns; 0 = it does not.
func (s *State) part(cell uint32) int32 {
	if s.Failing[cell].Load() != 0 {
		return 0
	}
	return int32(s.Weights[cell].Load())
}
