package steering

import "sync/atomic"

// MaxAcceptors is the number of Rows, and of acceptors that a program can steer to.
// An acceptor's number is its seat.
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
// so a load that is read meanwhile is neither one too many nor one too few.
//
// Selected counts too much where a handshake does not finish (a flood), or its SYN
// comes twice; Seat.Beat forgives those. Where the hash chose, or a SYN cookie's
// ACK went to another acceptor than its SYN, nothing was selected; Seat.Accepted
// sees that.
type Row struct {
	Selected atomic.Uint64 // written by the program
	round    atomic.Uint64 // the program's own
	_        [6]uint64

	Gone    atomic.Int64  // closed and lost ones, less those that came without being picked
	Settled atomic.Uint64 // picks that are over: accepted, lost or forgiven
	Flags   atomic.Uint64 // not 0: nothing new is steered to it
	_       [5]uint64
}

// The flags. Each has one writer, by Or and And. Where all rows have one, the
// kernel's hash chooses.
const (
	Draining uint64 = 1 << iota // the control plane's: the acceptor leaves
	Closed                      // the acceptor's: it takes nothing new for now
	Hung                        // the control plane's watchdog's: it does not turn, or no process runs it
)

// SetDraining says whether a seat's acceptor leaves.
func (r *Rows) SetDraining(seat int, draining bool) { r.Row(seat).set(Draining, draining) }

// SetHung says whether a seat's acceptor hangs.
func (r *Rows) SetHung(seat int, hung bool) { r.Row(seat).set(Hung, hung) }

func (r *Row) set(flag uint64, on bool) {
	if on {
		r.Flags.Or(flag)
	} else {
		r.Flags.And(^flag)
	}
}

// InFlight is how many connections were picked for a seat and have not come. An
// acceptor that is parked does not turn for a handshake that never ends: as long as
// it stays parked, those are not forgiven (Seat.Beat).
func (r *Rows) InFlight(seat int) int64 { return r.Row(seat).inFlight() }

// inFlight reads what is settled first, so that a pick in between counts.
func (r *Row) inFlight() int64 {
	settled := r.Settled.Load()
	return int64(r.Selected.Load() - settled)
}

// GiveBack clears what a seat's acceptor held when its process died, and sets Closed in
// its place: no client is steered there until its successor says that it takes
// connections. What waits in its queue still counts, for that one.
func (r *Rows) GiveBack(seat int) {
	row := r.Row(seat)
	row.set(Closed, true)
	row.Gone.Store(int64(row.Settled.Load()))
}

// Reset zeroes a seat's row for a new acceptor. The acceptor that had the number has
// left: its socket is closed, and nothing of it runs.
func (r *Rows) Reset(seat int) {
	row := r.Row(seat)
	row.Flags.Store(0)
	row.Selected.Store(0)
	row.round.Store(0)
	row.Gone.Store(0)
	row.Settled.Store(0)
}
