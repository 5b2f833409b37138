package metrics

import "sync/atomic"

// The cells: what an acceptor writes and all others read. Each type below
// lies in shared memory as it stands, so it holds only 8-byte atomics, and new
// fields come out of the padding (see layoutVersion).
//
// Rule: a block has one writer, the acceptor of its seat. Figures that span
// acceptors (max_sessions, a target's totals) are sums over the blocks, so there
// is nothing to repair when a writer dies but its own block, and its part of Held
// (GiveBack).
//
// On every listener of every acceptor, between two turns of its loop:
//
//	Accepted + Taken = Active + HandedOff + the sums of Rejected and of Closed

// Counter only grows. Gauge moves both ways.
type (
	Counter = atomic.Uint64
	Gauge   = atomic.Int64
)

// Places for words: more than there are (words.go), so that a new word is no new
// layout. A place without a word is zero.
const (
	maxReasons       = 40
	maxAcceptErrors  = 10
	maxRejects       = 8
	maxConnectErrors = 12
	maxPaths         = 4
	maxWaitEnds      = 4
	maxProbeEnds     = 4
	maxEjectReasons  = 2
	maxQueueEnds     = 8
)

// More words than places do not compile.
var (
	_ [maxReasons - NumReasons]struct{}
	_ [maxAcceptErrors - NumAcceptErrors]struct{}
	_ [maxRejects - NumRejects]struct{}
	_ [maxConnectErrors - NumConnectErrors]struct{}
	_ [maxPaths - NumPaths]struct{}
	_ [maxWaitEnds - NumWaitEnds]struct{}
	_ [maxProbeEnds - NumProbeEnds]struct{}
	_ [maxEjectReasons - NumEjectReasons]struct{}
	_ [maxQueueEnds - NumQueueEnds]struct{}
)

// ListenerCells are one acceptor's figures on one listener.
type ListenerCells struct {
	Accepted      Counter                  // connections returned by accept4
	Active        Gauge                    // sessions held here: accepted or taken, and not yet closed
	Opened        Gauge                    // the sum of when these began: CLOCK_MONOTONIC, nanoseconds; moves with Active, may wrap around
	HalfClosed    Gauge                    // of these, sessions with one half done
	AcceptErrors  [maxAcceptErrors]Counter // failed accept4 calls
	Rejected      [maxRejects]Counter      // closed before they became sessions
	Closed        [maxReasons]Counter      // sessions ended, by reason
	Received      [maxPaths]Counter        // bytes from clients, counted when written to the backend
	Sent          [maxPaths]Counter        // bytes to clients
	HandedOff     Counter                  // accepted here, passed to another acceptor
	Taken         Counter                  // passed here by another acceptor
	Rescued       Counter                  // accepted here from a hung acceptor's socket
	Duration      DurationHistogram        // accept to last close; as many as Closed
	Wait          LatencyHistogram         // time spent in the accept queue
	Waiting       Gauge                    // of the sessions held here, those that wait for a backend
	Waited        [maxWaitEnds]Counter     // sessions that had to, by how that ended
	HeldBack      [2]Counter               // times that a session waited for its bandwidth limit, by direction: from its client, to it
	HeldBackNanos [2]Counter               // and for how long
	_             [8]uint64                // to a whole number of cache lines; new fields come out of here
}

// TargetCells are one acceptor's figures on one target.
type TargetCells struct {
	Active   Gauge                     // sessions that hold it: picked, connecting or connected, not yet closed
	Attempts Counter                   // connect(2) started
	Errors   [maxConnectErrors]Counter // and failed
	Sessions Counter                   // and established
	Received Counter                   // bytes from the target
	Sent     Counter                   // bytes to the target
	Connect  LatencyHistogram          // of the established ones, SYN to established
	Probes   [maxProbeEnds]Counter     // of it while it failed
	Ejected  [maxEjectReasons]Counter  // times it began to be picked last
}

// PoolCells are one acceptor's figures on one pool.
type PoolCells struct {
	Retries   Counter // dials repeated on another target
	NoBackend Counter // sessions that found none to pick
	Capped    Counter // ejections that there was no room for
	Unpaid    Counter // retries that the budget did not pay for
	Queued    Gauge   // sessions held here that wait in the pool's queue
	QueueEnds [maxQueueEnds]Counter
	QueueWait LatencyHistogram // of those that got a place
	_         [2]uint64
}

// RouteCells are one acceptor's figures on one route. Several share a cache line: they are
// in the acceptor's stripe, where no other writes.
type RouteCells struct {
	Sessions Counter // that took it
	Active   Gauge   // of these, held here
	Received Counter // bytes from their clients, as ListenerCells count them
	Sent     Counter // bytes to them
}

// AcceptorCells are one acceptor's figures on itself, and below them, on a cache
// line of their own, the control plane's on the acceptor.
type AcceptorCells struct {
	Heartbeat        Gauge   // CLOCK_MONOTONIC, nanoseconds, when its last turn began
	Sessions         Gauge   // over all listeners
	Turns            Counter // of its loop
	Accepting        Gauge   // 1 while it takes new connections
	PipesOpen        Gauge   // pipes that exist
	PipesInUse       Gauge   // of these, lent to a half
	PipeFallbacks    Counter // times a half wanted a pipe and copied instead
	SpillBytes       Gauge   // bytes held in user memory because a receiver's socket was full
	Backoffs         Counter // times accepting paused for lack of descriptors or memory
	ThreadID         Gauge   // the thread its loop is locked to; 0 = not running, or not pinned
	PID              Gauge   // the process it runs in
	CPU              Gauge   // the CPU it is pinned to plus one; 0 = any
	Batched          Gauge   // 1 while the kernel schedules it in batches
	Parked           Gauge   // 1 while it waits in epoll for as long as it takes
	Generation       Gauge   // of the Plan it runs; 0 = none yet
	Paused           Gauge   // 1 while it accepts nothing for lack of descriptors or memory
	SpliceDenied     Counter // splice(2) calls that this machine refuses; after the first, all is copied
	SourcesEvicted   Counter // sources whose rate was forgotten to make room
	SourcesUntracked Counter // sessions of sources for which there was no room: no limit per source counted
	Moving           Gauge   // the target with a limit whose Held and Active it is changing, plus one; 0 = none
	_                [4]uint64

	Hung   Gauge   // 1 while it does not turn although it was given something
	Hangs  Counter // times that was so
	Record Gauge   // what it is to write into its journal (journal.Want); 0 = nothing
	_      [5]uint64
}
