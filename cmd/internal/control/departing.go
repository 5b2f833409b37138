package control

import (
	"slices"
	"time"

	"sluice/metrics"
)

// departing is what a departure looks at and does; front and seat differ in it.
type departing struct {
	waiting   func() int    // connections in the queues
	accepted  func() uint64 // from them, so far
	hold      func()        // lets no new handshake begin, where they could not be steered away
	holdAll   func()        // the same everywhere, before the queues are emptied a last time
	stop      func()        // ends listening on the sockets
	close     func()        // closes them
	holds     func() bool   // sessions, or connections passed on and not yet taken
	quietFor  time.Duration
	quietMost time.Duration
}

func (s *service) ofFront(f *front) departing {
	sum := func(of func(*metrics.ListenerCells) uint64) (n uint64) {
		for _, st := range s.state.seats {
			n += of(s.board.Listener(st.number, f.id))
		}
		return n
	}
	return departing{
		waiting:  func() int { return f.waiting(s.state.seats.numbers()) },
		accepted: func() uint64 { return sum(func(c *metrics.ListenerCells) uint64 { return c.Accepted.Load() }) },
		hold:     func() { f.holdOff(s.state.seats.numbers(), s.Log) },
		holdAll: func() {
			if f.steered.aside == nil {
				return // they are quiesced
			}
			for _, seat := range f.group.Seats() {
				f.quiesce(seat, s.Log)
			}
		},
		stop: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.watchdog.unwatch(f.descriptors()...)
			f.stop()
		},
		close: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			_ = f.group.Close()
		},
		holds: func() bool {
			return sum(func(c *metrics.ListenerCells) uint64 { return uint64(c.Active.Load()) }) > 0 ||
				sum(func(c *metrics.ListenerCells) uint64 { return c.HandedOff.Load() - c.Taken.Load() }) > 0
		},
		quietFor: f.quietFor(), quietMost: quietAtMost,
	}
}

// quietFor is how long nothing may come before the front's queues are empty for good. A
// unix socket has no handshakes that could be under way.
func (f *front) quietFor() time.Duration {
	if f.isUnix() {
		return 0
	}
	return quietFor
}

func (s *service) ofSeat(st *seat) departing {
	cells := s.board.Acceptor(st.number)
	return departing{
		waiting: func() (n int) {
			for _, f := range s.state.fronts {
				n += f.waiting([]int{st.number})
			}
			return n
		},
		accepted: func() (n uint64) {
			for _, f := range s.state.fronts {
				n += s.board.Listener(st.number, f.id).Accepted.Load()
			}
			return n
		},
		hold: func() {
			for _, f := range s.state.fronts {
				if slices.Contains(st.leaving.quiesce, f.id) {
					f.quiesce(st.number, s.Log)
				}
			}
		},
		holdAll: func() {
			for _, f := range s.state.fronts {
				f.quiesce(st.number, s.Log)
			}
		},
		stop: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, f := range s.state.fronts {
				s.watchdog.unwatch(f.group.FD(st.number))
				f.stopSeat(st.number, s.Log)
			}
		},
		close: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, f := range s.state.fronts {
				f.closeSeat(st.number)
			}
		},
		holds: func() bool {
			return cells.Sessions.Load() > 0 || waitsAt(st.mail.Receive) || s.reached() < st.leaving.generation
		},
		quietFor: seatQuietFor, quietMost: seatQuietAtMost,
	}
}
