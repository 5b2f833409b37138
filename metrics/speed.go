package metrics

import (
	"math"
	"sync/atomic"
	"time"
)

// Speed is the cell in which all acceptors of a service share how long a target takes to
// take a connection: a peak EWMA, as Finagle's load balancers have it (Twitter, "Peak EWMA",
// 2015; its class com.twitter.finagle.loadbalancer.p2c.PeakEwma). What is slower than the
// average counts at once; what is faster moves it as slowly as time goes by. An average that
// nothing is added to fades, so that one that was slow is tried again.
//
//	average, ns │ CLOCK_MONOTONIC, ms
//	    32      │        32
//
// So the longest is 4.3 s, and an age of more than 24 days looks like none.
type Speed struct{ word atomic.Uint64 }

// speedFades is the time in which an average loses 63% of its weight, the default of
// Finagle and linkerd.
const speedFades = 10 * time.Second

// Observe adds a connection that took so long, at now on CLOCK_MONOTONIC.
func (s *Speed) Observe(now, took time.Duration) {
	took = min(max(took, 1), math.MaxUint32)
	for {
		was := s.word.Load()
		average := took
		if before := averageOf(was); took < before {
			kept := fade(was, now)
			average = time.Duration(kept*float64(before) + (1-kept)*float64(took))
		}
		if s.word.CompareAndSwap(was, uint64(max(average, 1))<<32|uint64(uint32(now.Milliseconds()))) {
			return
		}
	}
}

// At is the average as it is at now, in nanoseconds; 0 = nothing is known.
func (s *Speed) At(now time.Duration) float64 {
	was := s.word.Load()
	if was == 0 {
		return 0
	}
	return max(1, float64(averageOf(was))*fade(was, now))
}

func (s *Speed) clear() { s.word.Store(0) }

func averageOf(word uint64) time.Duration { return time.Duration(word >> 32) }

// fade is the weight that an average has left. One of the future, which another CPU has
// written, has all.
func fade(word uint64, now time.Duration) float64 {
	age := int32(uint32(now.Milliseconds()) - uint32(word))
	if age <= 0 {
		return 1
	}
	return math.Exp(-float64(age) / float64(speedFades.Milliseconds()))
}
