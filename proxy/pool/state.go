package pool

import "sluice/metrics"

// State is what the board says of targets, by index. All of it may change at any time.
type State struct {
	Held    []metrics.Gauge   // sessions that hold it over all acceptors
	Weights []metrics.Gauge   // the weight in force times WeightScale, 0 = nobody new
	Failing []metrics.Failing // not 0 = it did not take a connection: ranked last
}

// WeightScale is what a weight of 1 is on the board: fine enough for one that grows in
// small steps (slow start). The largest is 256 times that; the sum over 65,536 targets,
// 2^30, times a turn is below 2^62.
const WeightScale = 64

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
