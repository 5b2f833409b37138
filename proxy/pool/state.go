package pool

import (
	"time"

	"sluice/metrics"
)

// State is what the board says of targets, by index. All of it may change at any time.
type State struct {
	Held    []metrics.Gauge   // sessions that hold it over all acceptors
	Weights []metrics.Gauge   // the weight in force times WeightScale, 0 = no new sessions
	Weighed *metrics.Counter  // of changes of Weights
	Failing []metrics.Failing // not 0 = it did not take a connection: ranked last
	Limits  []metrics.Gauge   // a metrics.Limit; looked at if the pool is Limited
	Speeds  []metrics.Speed   // of targets of pools that pick the Fastest
	Clock   *int64            // of the acceptor: CLOCK_MONOTONIC in nanoseconds as it read it last
}

// WeightScale is what a weight of 1 is on the board: fine enough for one that grows in
// small steps (slow start). The largest is 256 times that; the sum over 65,536 targets,
// 2^30, times a turn is below 2^62.
const WeightScale = 64

// StateOf is the board's, for an acceptor with this clock.
func StateOf(b *metrics.Board, clock *int64) State {
	return State{
		Held: b.Held(), Weights: b.Weights(), Weighed: b.Weighed(), Failing: b.Failing(), Limits: b.Limits(), Speeds: b.Speeds(), Clock: clock,
	}
}

// part is the weight with which a target takes part in turns; 0 = it does not.
func (s *State) part(cell uint32) int32 {
	if s.Failing[cell].Load() != 0 {
		return 0
	}
	return int32(s.Weights[cell].Load())
}

// full says whether a target has the sessions that it may have.
func (s *State) full(cell uint32) bool {
	l := metrics.Limit(s.Limits[cell].Load())
	return l != 0 && s.Held[cell].Load() >= l.Sessions()
}

// less says whether a target has fewer sessions for its weight than another, neither of
// whose weights is 0.
func (s *State) less(one, other uint32) bool {
	return s.Held[one].Load()*s.Weights[other].Load() < s.Held[other].Load()*s.Weights[one].Load()
}

// slowness is what a session that comes to a target as it is costs: what a connection
// takes, times the sessions it would hold then, for its weight.
func (s *State) slowness(cell uint32) float64 {
	held := float64(max(s.Held[cell].Load(), 0))
	took := s.Speeds[cell].At(time.Duration(*s.Clock))
	if took == 0 && held > 0 {
		took = unmeasured
	}
	return took * (held + 1) / float64(max(s.Weights[cell].Load(), 1))
}

// unmeasured is how slow a target that holds sessions and has not taken one yet is taken to
// be, in nanoseconds: it gets one to begin with, and no crowd. Finagle has this penalty.
const unmeasured = float64(time.Hour)

// changed says whether weights have changed since it was asked last.
type changed struct {
	seen  uint64
	asked bool
}

func (c *changed) since(s *State) bool {
	n := s.Weighed.Load() // first: a weight that changes after it is counted after it
	if c.asked && n == c.seen {
		return false
	}
	c.seen, c.asked = n, true
	return true
}
