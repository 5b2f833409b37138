package control

import (
	"slices"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// departure is the end of a front, or of a seat with its socket of every front. Nothing
// is lost that could have been served:
//
//	announced ─► emptying ─► closing ─► ending ─► gone
//	   │            │           │          └ until its last session has ended, or is cut at the deadline. The sockets
//	   │            │           │            are closed once every acceptor knows, for one that hangs may still look at them
//	   │            │           └ acceptors empty the queues a last time; then nothing listens any more
//	   │            └ no new handshake begins; those under way end, and are served
//	   └ until every acceptor knows, so that it restores what it accepts from a quiesced socket
//
// The drain of a whole service is the departure of all its fronts.
type departure struct {
	stage      stage
	phase      proxy.Phase // in the Plan
	generation uint64      // of the Plan with the phase; 0 = not published yet
	since      time.Time   // of the stage
	quiet      time.Time   // since when nothing has come
	accepted   uint64
	deadline   time.Time    // when its sessions are cut; zero = never
	quiesce    []metrics.ID // a seat's: fronts that could not be steered away from it
	closed     bool         // its sockets are
}

type stage uint8

const (
	announced stage = iota
	emptying
	closing
	ending
	gone
)

const (
	// knownWithin bounds the wait for acceptors that do not turn: a sibling serves their
	// sockets and knows.
	knownWithin = time.Second
	// quietFor is how long no connection may come before the accept queues count as
	// empty for good: a handshake that was under way at the start has a round trip's
	// time to end.
	quietFor = 200 * time.Millisecond
	// quietAtMost bounds that against clients that keep a handshake open.
	quietAtMost = 2 * time.Second
	// A seat that leaves is in no hurry, for it still serves what comes: its handshakes
	// may have lost a packet, which is sent again after 1 s.
	seatQuietFor    = 1500 * time.Millisecond
	seatQuietAtMost = 10 * time.Second
	// departStep is how often departures under way are looked at.
	departStep = 10 * time.Millisecond
)

func newDeparture(now, deadline time.Time) *departure {
	d := &departure{phase: proxy.PhaseLeaving, deadline: deadline}
	d.enter(announced, now)
	return d
}

func (d *departure) enter(s stage, now time.Time) { d.stage, d.since, d.quiet = s, now, now }

// step takes a departure on as far as it goes now. It returns whether the Plan must
// announce it.
func (d *departure) step(now time.Time, of departing, reached uint64, hurried bool) (tell bool) {
	everywhere := d.generation != 0 && reached >= d.generation
	known := everywhere || d.generation != 0 && (hurried || now.Sub(d.since) >= knownWithin)
	late := hurried || !d.deadline.IsZero() && now.After(d.deadline)
	switch d.stage {
	case announced:
		if !known {
			return false
		}
		of.hold()
		d.enter(emptying, now)
		d.accepted = of.accepted()
	case emptying:
		if n, waiting := of.accepted(), of.waiting(); n != d.accepted || waiting > 0 {
			d.accepted, d.quiet = n, now
		}
		if !late && now.Sub(d.quiet) < of.quietFor && now.Sub(d.since) < of.quietMost {
			return false
		}
		of.holdAll() // while sockets close the kernel's order is not what steering thinks
		d.phase, d.generation = proxy.PhaseClosed, 0
		d.enter(closing, now)
		return true
	case closing:
		if !known {
			return false
		}
		of.stop()
		d.enter(ending, now)
	case ending:
		if everywhere && !d.closed {
			of.close()
			d.closed = true
		}
		if !of.holds() {
			d.stage = gone
			return true
		}
		if late && d.phase != proxy.PhaseCut {
			d.phase, d.generation = proxy.PhaseCut, 0
			d.since = now
			return true
		}
	}
	return false
}

// depart looks at all departures, and publishes what has changed. It returns whether
// some are still under way.
func (s *service) depart(now time.Time) (more bool) {
	next := s.copyState()
	reached, tell := s.reached(), false
	for _, f := range next.fronts {
		if f.leaving != nil {
			was := f.leaving.phase
			tell = f.leaving.step(now, s.ofFront(f), reached, s.hurried) || tell
			if f.leaving.phase == proxy.PhaseCut && was != proxy.PhaseCut {
				s.Log.Warn("cutting sessions that are still running", "listener", f.config.Name,
					"sessions", s.sessionsAt(s.state, f.id), "reason", metrics.ReasonDrainDeadline.String())
			}
			more = true
		}
	}
	for _, st := range next.seats {
		if st.leaving != nil {
			tell = st.leaving.step(now, s.ofSeat(st), reached, s.hurried) || tell
			more = true
		}
	}
	if !tell {
		s.replace(next)
		return more
	}
	next.fronts = slices.DeleteFunc(next.fronts, func(f *front) bool { return s.frontIsGone(f) })
	next.seats = slices.DeleteFunc(next.seats, func(st *seat) bool { return s.seatIsGone(st) })
	if err := next.gatherPools(s.state, s.ledger, s.board); err != nil {
		s.Log.Error("departure not told", "error", err)
		return more
	}
	if err := s.publish(next); err != nil {
		s.Log.Error("departure not told", "error", err)
		return more
	}
	return more
}

// copyState is the state with departures of its own.
func (s *service) copyState() *state {
	next := *s.state
	next.fronts, next.seats = nil, nil
	for _, f := range s.state.fronts {
		copied := *f
		copied.leaving = copied.leaving.clone()
		next.fronts = append(next.fronts, &copied)
	}
	for _, st := range s.state.seats {
		copied := *st
		copied.leaving = copied.leaving.clone()
		next.seats = append(next.seats, &copied)
	}
	return &next
}

func (d *departure) clone() *departure {
	if d == nil {
		return nil
	}
	copied := *d
	return &copied
}

// departures are those of all fronts and seats.
func (s *state) departures() (all []*departure) {
	for _, f := range s.fronts {
		if f.leaving != nil {
			all = append(all, f.leaving)
		}
	}
	for _, st := range s.seats {
		if st.leaving != nil {
			all = append(all, st.leaving)
		}
	}
	return all
}

// reached is the oldest generation that an acceptor runs.
func (s *service) reached() uint64 {
	oldest := s.state.generation
	for _, st := range s.state.seats {
		oldest = min(oldest, uint64(s.board.Acceptor(st.number).Generation.Load()))
	}
	return oldest
}

func (s *service) frontIsGone(f *front) bool {
	if f.leaving == nil || f.leaving.stage != gone {
		return false
	}
	s.Log.Info("listener has left", "listener", f.config.Name, "address", f.group.Address())
	f.goneIn = s.state.generation + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, f)
	return true
}

func (s *service) seatIsGone(st *seat) bool {
	if st.leaving == nil || st.leaving.stage != gone {
		return false
	}
	s.retiring = append(s.retiring, st) // until the host says that nothing of it runs
	return true
}

// retire takes back a seat whose acceptor has ended.
func (s *service) retire(number int) {
	i := slices.IndexFunc(s.retiring, func(st *seat) bool { return st.number == number })
	if i < 0 {
		return
	}
	closeMailbox(s.retiring[i].mail)
	s.retiring = slices.Delete(s.retiring, i, i+1)
	s.board.Retire(number)
	s.Log.Info("acceptor has left", "acceptor", number)
}

// forget frees the numbers of what no acceptor and no session knows any more.
func (s *service) forget() {
	reached := s.reached()
	for _, st := range s.retiring { // it still runs its last Plan, and looks at all that is in it
		reached = min(reached, uint64(s.board.Acceptor(st.number).Generation.Load()))
	}
	s.addUp(s.ledger.targets.forget(reached, s.isHeld))
	s.ledger.pools.forget(reached, func(metrics.ID) bool { return false })
	s.ledger.routes.forget(reached, s.isTaken)
	s.ledger.listeners.forget(reached, func(id metrics.ID) bool {
		return slices.ContainsFunc(s.gone, func(f *front) bool { return f.id == id })
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = slices.DeleteFunc(s.gone, func(f *front) bool {
		if reached < f.goneIn {
			return false
		}
		if later := s.state.front(f.config.Name); later != nil {
			s.board.Inherit(later.id, f.id)
		}
		f.close()
		return true
	})
}

// toldIn notes the Plan that tells of new phases.
func (s *state) toldIn(generation uint64) {
	for _, d := range s.departures() {
		if d.generation == 0 {
			d.generation = generation
		}
	}
}

// isHeld says whether a session has a target. The shared word is no witness: a worker
// that died at the wrong moment left it too high.
func (s *service) isHeld(id metrics.ID) bool {
	if s.movement.holds(id) {
		return true
	}
	for _, st := range append(s.state.seats, s.retiring...) {
		if s.board.Target(st.number, id).Active.Load() != 0 {
			return true
		}
	}
	return false
}

// isTaken says whether a session has taken a route.
func (s *service) isTaken(id metrics.ID) bool {
	for _, st := range append(s.state.seats, s.retiring...) {
		if s.board.Route(st.number, id).Active.Load() != 0 {
			return true
		}
	}
	return false
}
