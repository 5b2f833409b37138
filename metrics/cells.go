package metrics

import (
	"sync/atomic"
	"time"
)

// The cells: what an acceptor writes and everybody else reads. Each type below
// lies in shared memory as it stands, so it holds only 8-byte atomics, and new
// fields are appended (see layoutVersion).
//
// Rule: a block has one writer, the acceptor it belongs to. Figures that span
// acceptors (a backend's sessions, max_sessions) are sums over the blocks, so
// there is nothing to repair when a writer dies but its own block (GiveBack).
//
// On every listener of every acceptor, between two turns of its loop:
//
//	Accepted + Taken = Active + HandedOff + the sums of Rejected and of Closed

// Counter only grows. Gauge moves both ways.
type (
	Counter = atomic.Uint64
	Gauge   = atomic.Int64
)

// ListenerCells are one acceptor's figures on one listener.
type ListenerCells struct {
	Accepted     Counter                  // connections returned by accept4
	Active       Gauge                    // sessions held here: accepted or taken, and not yet closed
	HalfClosed   Gauge                    // of these, sessions with one half done
	AcceptErrors [NumAcceptErrors]Counter // failed accept4 calls
	Rejected     [NumRejects]Counter      // closed before they became sessions
	Closed       [NumReasons]Counter      // sessions ended, by reason
	Received     [NumPaths]Counter        // bytes from clients, counted when written to the backend
	Sent         [NumPaths]Counter        // bytes to clients
	HandedOff    Counter                  // accepted here, passed to another acceptor
	Taken        Counter                  // passed here by another acceptor
	Rescued      Counter                  // accepted here from a hung acceptor's socket
	Duration     DurationHistogram        // accept to last close
	Wait         LatencyHistogram         // time spent in the accept queue
	Waiting      Gauge                    // of the sessions held here, those that wait for a backend
	Waited       [NumWaitEnds]Counter     // sessions that had to, by how that ended
	_            [7]uint64                // to a whole number of cache lines; new fields come out of here
}

// BackendCells are one acceptor's figures on one backend of one pool.
type BackendCells struct {
	Active   Gauge                     // sessions that hold it: picked, connecting or connected, not yet closed
	Attempts Counter                   // connect(2) started
	Errors   [NumConnectErrors]Counter // and failed
	Sessions Counter                   // and established
	Received Counter                   // bytes from the backend
	Sent     Counter                   // bytes to the backend
	Connect  LatencyHistogram          // of the established ones, SYN to established
	_        [4]uint64
}

// PoolCells are one acceptor's figures on one pool.
type PoolCells struct {
	Retries   Counter // dials repeated on another backend
	NoBackend Counter // sessions that found none to pick
	_         [6]uint64
}

// AcceptorCells are one acceptor's figures on itself.
type AcceptorCells struct {
	Heartbeat     Gauge   // CLOCK_MONOTONIC, nanoseconds, at the start of its last turn
	Sessions      Gauge   // over all listeners
	Turns         Counter // of its loop
	Accepting     Gauge   // 1 while it takes new connections
	PipesOpen     Gauge   // pipes that exist
	PipesInUse    Gauge   // of these, lent to a half
	PipeFallbacks Counter // times a half wanted a pipe and copied instead
	SpillBytes    Gauge   // bytes held in user memory because a receiver's socket was full
	Backoffs      Counter // times accepting paused for lack of descriptors or memory
	ThreadID      Gauge   // the thread its loop is locked to; 0 = not running, or not pinned
	PID           Gauge   // the process it runs in
	CPU           Gauge   // the CPU it is pinned to plus one; 0 = any
	Batched       Gauge   // 1 while the kernel schedules it in batches
	_             [3]uint64
}

// DurationBuckets are the upper bounds of DurationHistogram, in seconds: a probe
// to a day.
var DurationBuckets = [11]float64{.001, .01, .1, 1, 10, 60, 300, 1800, 3600, 21600, 86400}

// DurationHistogram counts session lengths.
type DurationHistogram struct {
	Buckets [len(DurationBuckets) + 1]Counter // not cumulative; the last is +Inf
	Nanos   Counter                           // sum
}

// Observe adds one duration.
func (h *DurationHistogram) Observe(d time.Duration) {
	observe(h.Buckets[:], DurationBuckets[:], &h.Nanos, d)
}

// LatencyBuckets are the upper bounds of LatencyHistogram, in seconds: loopback
// to a lost SYN sent thrice.
var LatencyBuckets = [15]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// LatencyHistogram counts waits: a connect, a stay in the accept queue.
type LatencyHistogram struct {
	Buckets [len(LatencyBuckets) + 1]Counter // not cumulative; the last is +Inf
	Nanos   Counter                          // sum
}

// Observe adds one latency.
func (h *LatencyHistogram) Observe(d time.Duration) {
	observe(h.Buckets[:], LatencyBuckets[:], &h.Nanos, d)
}

func observe(buckets []Counter, bounds []float64, sum *Counter, d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	buckets[i].Add(1)
	sum.Add(uint64(max(d, 0)))
}
