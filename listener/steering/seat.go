package steering

import "time"

// Seat is a row as acceptors use it, without a system call: each its own, and
// the others' to compare, to pick for them and to take what they leave waiting.
// Beat and Open are the owner's alone; a Seat belongs to one goroutine.
type Seat struct {
	row   *Row
	seen  uint64 // what was selected at the last beat
	low   int64  // the fewest in flight in this window, of those that the beat before had seen
	until int64  // the window's end, CLOCK_MONOTONIC in nanoseconds; 0 = none has begun
}

// Seat returns a hold on the row of seat i.
func (r *Rows) Seat(i int) *Seat { return &Seat{row: r.Row(i)} }

// Load is the number of connections that the acceptor holds or is about to get.
func (s *Seat) Load() int64 { return s.row.load() }

// Pick counts a connection picked for the acceptor by another one.
func (s *Seat) Pick() { s.row.Selected.Add(1) }

// Accepted counts a connection that has come. Where none is in flight it comes
// unpicked: by the hash, or when its pick has been forgiven.
func (s *Seat) Accepted() {
	if s.row.inFlight() > 0 {
		s.row.Settled.Add(1)
	} else {
		s.Hold(1)
	}
}

// Lost counts a connection, picked or not, that another has taken.
func (s *Seat) Lost() {
	if s.row.inFlight() > 0 {
		s.settle(1)
	}
}

// Hold counts n connections more, or with n below 0 fewer, that the acceptor
// holds and that were not picked.
func (s *Seat) Hold(n int64) { s.row.Gone.Add(-n) }

// settle takes n out of those in flight and out of the load.
func (s *Seat) settle(n int64) {
	s.row.Gone.Add(n)
	s.row.Settled.Add(uint64(n))
}

// Open says whether the acceptor takes new connections.
func (s *Seat) Open(open bool) {
	s.row.set(Closed, !open)
}

const (
	// settleWindow is longer than most handshakes take and shorter than the
	// second after which a lost SYN is sent again.
	settleWindow = 250 * time.Millisecond

	// mostInFlight bounds the handshakes that count. While all acceptors have
	// as many, ties go round, so that even then none gets more than the next.
	// Without a bound a flood would level the sums of clients and its own SYNs,
	// and spread the clients no better than by chance.
	mostInFlight = 64
)

// Beat tells that the acceptor turns, at CLOCK_MONOTONIC now in nanoseconds.
// empty says that it has seen its queue empty since the last Beat: accept4 said
// EAGAIN, or epoll named all that is ready and not the socket. It returns whether
// picks are still in flight: then the loop turns again within settleWindow, with or
// without an event, to forgive those that nothing will come of.
func (s *Seat) Beat(now int64, empty bool) (inFlight bool) {
	if empty {
		s.forgive(now)
	}
	s.seen = s.row.Selected.Load()
	return s.row.inFlight() > 0
}

// forgive takes picks that nothing will come of out of the count in flight.
//
// Of the picks that the beat before saw, those in flight now are only handshakes:
// the queue has been empty since. (Later ones may wait in it already.) A handshake
// ends, while a lost pick stays in flight for ever: so the fewest in flight
// over a window is the number of those, and is forgiven; and what exceeds
// mostInFlight is forgiven at once. That may hit handshakes which are slow or
// many, and is put right as they are accepted. What waits in the queue is never
// forgiven: an acceptor that does not keep up looks as loaded as it is. A known
// limit: an acceptor that turns rarely forgives rarely, and gets less during a
// flood.
func (s *Seat) forgive(now int64) {
	if lost := s.row.inFlight(); lost < 0 { // a rescuer and the owner took two for picked, and one was not
		s.settle(lost)
	}
	before := max(int64(s.seen-s.row.Settled.Load()), 0)
	after := min(before, mostInFlight)
	s.low = min(s.low, after)
	if now >= s.until {
		if s.until != 0 {
			after -= s.low
		}
		s.low, s.until = after, now+int64(settleWindow)
	}
	if after != before {
		s.settle(before - after)
	}
}
