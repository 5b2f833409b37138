package steering

import "time"

// Seat is a row as acceptors use it, without a system call: each its own, and
// the others' to compare, to pick for them and to take what they leave waiting.
// Beat and Open are the owner's alone; a Seat belongs to one goroutine.
type Seat struct {
	row   *Row
	low   int64 // the lowest count in flight in this window
	until int64 // the window's end, CLOCK_MONOTONIC in nanoseconds; 0 = none has begun
}

// Seat returns a hold on acceptor i's row.
func (r *Rows) Seat(i int) *Seat { return &Seat{row: r.Row(i)} }

// Load is the number of connections that the acceptor holds or is about to get.
func (s *Seat) Load() int64 { return s.row.Active.Load() + max(s.inFlight(), 0) }

// Pick counts a connection picked for the acceptor by another one.
func (s *Seat) Pick() { s.row.Selected.Add(1) }

// Accepted counts a picked connection that has come. It is held before it is no
// longer in flight, so that the acceptor never looks less loaded than it is.
func (s *Seat) Accepted() {
	s.row.Active.Add(1)
	s.row.Settled.Add(1)
}

// Lost counts a picked connection that somebody else has taken.
func (s *Seat) Lost() { s.row.Settled.Add(1) }

// Hold counts n connections more, or with n below 0 fewer, that the acceptor
// holds and nobody picked.
func (s *Seat) Hold(n int64) { s.row.Active.Add(n) }

// Open says whether the acceptor takes new connections.
func (s *Seat) Open(open bool) {
	if open {
		s.row.Flags.And(^Closed)
	} else {
		s.row.Flags.Or(Closed)
	}
}

const (
	// settleWindow is longer than most handshakes take and shorter than the
	// second after which a lost SYN is sent again.
	settleWindow = 250 * time.Millisecond

	// mostInFlight bounds the handshakes that count. While all acceptors have
	// as many, ties go round, so that even then nobody gets more than the next.
	// Without a bound a flood would level the sums of clients and its own SYNs,
	// and spread the clients no better than by chance.
	mostInFlight = 64
)

// Beat tells that the acceptor turns, at CLOCK_MONOTONIC now in nanoseconds.
// empty says that it has just seen its queue empty: accept4 said EAGAIN, or a
// turn ended without an event of the socket.
func (s *Seat) Beat(now int64, empty bool) {
	s.row.Heartbeat.Store(now)
	if empty {
		s.forgive(now)
	}
}

// forgive takes picks that nothing will come of out of the count in flight.
//
// While the queue is empty, that count is only handshakes. A handshake ends,
// while a pick gone astray stays in the count for ever: so the lowest count over
// a window is the number of those, and is forgiven; and what exceeds
// mostInFlight is forgiven at once. That may hit handshakes which are slow or
// many, and their accepts then bring the count below zero, which is put right
// when it is seen. What waits in the queue is never forgiven: an acceptor that
// does not keep up looks as loaded as it is. A known limit: who turns rarely
// forgives rarely, and gets less during a flood.
func (s *Seat) forgive(now int64) {
	before := s.inFlight()
	after := min(max(before, 0), mostInFlight)
	s.low = min(s.low, after)
	if now >= s.until {
		if s.until != 0 {
			after -= s.low
		}
		s.low, s.until = after, now+int64(settleWindow)
	}
	if after != before {
		s.row.Settled.Add(uint64(before - after))
	}
}

// inFlight reads what is settled first, so that a pick in between counts.
func (s *Seat) inFlight() int64 {
	settled := s.row.Settled.Load()
	return int64(s.row.Selected.Load() - settled)
}
