package metrics

import (
	"sync/atomic"
	"time"
)

// Failing is the cell in which all acceptors of a service share what they know of a
// target that did not take a connection. It is one word, so each change is whole, and
// exactly one acceptor sees that it changed.
//
//	works ──► suspect: a connect goes unanswered ──► failing: refused, timed out, no way ──┐
//	  ▲              │                                   ▲        until its time is over,   │
//	  │              ▼                                   └─────── then probed by its seat ◄─┘
//	  └────────── a connection, a session's or a probe's, is established
type Failing struct{ word atomic.Uint64 }

// Load returns what is known; 0 = nothing is wrong.
func (f *Failing) Load() Failure { return Failure(f.word.Load()) }

// Swap replaces what is known.
func (f *Failing) Swap(to Failure) (was Failure) { return Failure(f.word.Swap(uint64(to))) }

// CompareAndSwap replaces what is known unless another has done so.
func (f *Failing) CompareAndSwap(was, to Failure) bool {
	return f.word.CompareAndSwap(uint64(was), uint64(to))
}

// Failure is the value of a Failing:
//
//	until, in ms │ class │ seat │ failures
//	     46      │   4   │  6   │    8
//
// 46 bits of milliseconds last for 2,200 years of the machine's running.
type Failure uint64

// EarlyClose is the class of a Failure that no connect has had: the target takes connections,
// and ends sessions before it has said a word.
const EarlyClose ConnectError = 1<<4 - 1

// Word is the failure's class as it is shown.
func (f Failure) Word() string {
	if f.Class() == EarlyClose {
		return EjectEarlyClose.String()
	}
	return f.Class().String()
}

// maxFailures is where the count stops: a time that doubles has long reached its bound.
const maxFailures = 1<<8 - 1

// NewFailure says that failures connects in a row have failed, the last one as class
// says, and that seat is to probe the target when CLOCK_MONOTONIC reaches until. With no
// failures yet the target is suspect: a connect to it goes unanswered.
func NewFailure(until time.Duration, failures, seat int, class ConnectError) Failure {
	return Failure(uint64(until.Milliseconds())<<18 | uint64(class)<<14 | uint64(seat)<<8 | uint64(min(failures, maxFailures)))
}

// Until is when the target is probed next, on CLOCK_MONOTONIC.
func (f Failure) Until() time.Duration { return time.Duration(f>>18) * time.Millisecond }

// Class says how the last connect failed.
func (f Failure) Class() ConnectError { return ConnectError(f >> 14 & 0xf) }

// Seat is the acceptor that probes it.
func (f Failure) Seat() int { return int(f >> 8 & 0x3f) }

// Failures is how many connects in a row have failed; 0 for one that is only suspect.
func (f Failure) Failures() int { return int(f & maxFailures) }
