package steering

import "sync/atomic"

// MaxAcceptors is the number of Rows, and of acceptors that a program can steer to.
const MaxAcceptors = 64

// Row is what steering knows of one acceptor. It lies in shared memory as
// select.bpf.c has it: two cache lines, so that the program's writes do not slow
// down the acceptor's.
//
// Invariant: an event changes the load by one write of one word, and
//
//	Selected - Gone     is the load: connections that it holds or that are in flight
//	Selected - Settled  of those, the ones in flight: picked and not yet accepted
//	Settled - Gone      of those, the ones that it holds
//
// An accept moves a connection from in flight to held and leaves the load alone;
// so whoever reads a load meanwhile reads neither one too many nor one too few.
//
// Selected counts too much where a handshake does not finish (a flood), or its SYN
// comes twice; Seat.Beat forgives those. Where the hash chose, or a SYN cookie's
// ACK went to another acceptor than its SYN, nothing was selected; Seat.Accepted
// sees that.
type Row struct {
	Selected atomic.Uint64 // written by the program
	_        [7]uint64     // the first is the program's own

	Gone      atomic.Int64  // closed and lost ones, less those that came without being picked
	Settled   atomic.Uint64 // picks that are over: accepted, lost or forgiven
	Heartbeat atomic.Int64  // CLOCK_MONOTONIC, in nanoseconds, of its last turn; 0 = not running yet
	Flags     atomic.Uint64 // not 0: nothing new is steered to it
	_         [4]uint64
}

// The flags. Each has one writer, by Or and And.
const (
	Draining uint64 = 1 << iota // the control plane's: the acceptor leaves
	Closed                      // the acceptor's: it takes nothing new for now
)

// GiveBack clears what acceptor i held when its process died. What waits in its
// queue still counts, for its successor; until that turns, it counts as hung.
func (r *Rows) GiveBack(i int) {
	row := r.Row(i)
	row.Heartbeat.Store(0)
	row.Gone.Store(int64(row.Settled.Load()))
	row.Flags.And(^Closed)
}
