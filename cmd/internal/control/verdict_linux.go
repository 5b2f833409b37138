package control

import (
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/host"
)

// watched is what the watchdog knows of a seat.
type watched struct {
	exists  bool
	serves  bool // may rescue
	mail    host.Mailbox
	given   int64 // CLOCK_MONOTONIC since when it owes a turn; 0 = it is not in doubt
	queues  []int // where something has come since then
	more    bool  // in more of them than are remembered
	hung    bool
	rescued bool
	rescuer int
}

// maxQueues a seat are remembered while it is in doubt. If something comes in more of
// them, all are looked at.
const maxQueues = 64

func (s *watched) give(now int64) {
	if s.given == 0 {
		s.given = now
	}
}

// note remembers where something has come.
func (s *watched) note(fd int) {
	switch {
	case slices.Contains(s.queues, fd):
	case len(s.queues) < maxQueues:
		s.queues = append(s.queues, fd)
	default:
		s.more = true
	}
}

// acquit ends the doubt.
func (s *watched) acquit() {
	s.given, s.queues, s.more = 0, s.queues[:0], false
}

// pauseAtMost is how long an acceptor that lacks descriptors may leave its queues alone
// between two turns.
const pauseAtMost = time.Second

// judge says whether a seat in doubt hangs, or is out of doubt. It returns when the seat's
// time will be up; notInDoubt: it is not in doubt any more.
func (w *watchdog) judge(s *watched, i int, now int64) (due int64) {
	c := w.board.Acceptor(i)
	parked := c.Parked.Load() != 0
	turned := c.Heartbeat.Load() // after parked; 0 = none runs there: it died, and its successor starts
	patience := int64(w.hangAfter)
	if c.Paused.Load() != 0 {
		patience += int64(pauseAtMost)
	}
	since := s.given
	if !parked && turned != 0 {
		since = min(since, turned) // it was in a turn when it was given this
	}
	switch {
	case turned > s.given:
		if s.hung {
			w.revive(s, i)
		}
		s.given = turned // it turns, but perhaps has not come to all of it
		if w.owes(s, i) {
			return turned + patience
		}
		s.acquit()
		return notInDoubt
	case parked && !s.hung && !w.owes(s, i): // it had taken all of it before it was in doubt
		s.acquit()
		return notInDoubt
	case parked && !s.hung && !w.owesAlone(s, i): // a sibling was woken for it; if that one hangs, it will not be parked
		return now + patience
	}
	if !s.hung && now-since > patience {
		s.hung = true
		c.Hangs.Add(1)
		w.tell(i, true)
		w.log.Warn("acceptor hangs: it takes nothing new, a sibling serves what waits for it", "acceptor", i)
	}
	return since + patience
}

// notInDoubt is when the time of an acceptor that is not in doubt is up.
const notInDoubt = math.MaxInt64

func (w *watchdog) revive(s *watched, i int) {
	s.hung = false
	w.tell(i, false)
	w.endRescue(s, i)
	w.log.Info("acceptor turns again", "acceptor", i)
}

// tell lets siblings and steering know.
func (w *watchdog) tell(i int, hung bool) {
	w.board.Acceptor(i).Hung.Store(map[bool]int64{true: 1}[hung])
	for _, r := range w.rows {
		r.SetHung(i, hung)
	}
}

func (w *watchdog) endRescue(s *watched, i int) {
	if s.rescued {
		s.rescued = false
		w.rescue(s.rescuer, i, false) // one that hangs itself hears of it when it turns again
	}
}

// owes says whether a seat's acceptor has not yet taken all that it was given.
func (w *watchdog) owes(s *watched, i int) bool {
	if w.board.Acceptor(i).Generation.Load() < int64(w.given) {
		return true
	}
	if s.more {
		for fd, seat := range w.fds {
			if seat == i && waitsAt(fd) {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(s.queues, func(fd int) bool {
		_, still := w.fds[fd]
		return still && waitsAt(fd)
	})
}

// owesAlone says the same of what was given to no other.
func (w *watchdog) owesAlone(s *watched, i int) bool {
	if s.more || w.board.Acceptor(i).Generation.Load() < int64(w.given) {
		return true
	}
	return slices.ContainsFunc(s.queues, func(fd int) bool {
		_, still := w.fds[fd]
		return still && !w.shared[fd] && waitsAt(fd)
	})
}

// waitsAt says whether something waits at a listening socket, or at a mailbox.
func waitsAt(fd int) bool {
	at := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(at, 0)
	return err == nil && n > 0 && at[0].Revents == unix.POLLIN // and not POLLHUP: one that was stopped
}

// fit says whether a seat's acceptor may serve others' sockets.
func (w *watchdog) fit(i int) bool {
	s, c := &w.seats[i], w.board.Acceptor(i)
	return s.exists && s.serves && !s.hung && c.PID.Load() != 0 && c.Paused.Load() == 0
}

// idlest is the acceptor with the fewest sessions among those that are fit; -1 = none.
func (w *watchdog) idlest() int {
	best, least := -1, int64(0)
	for i := range w.seats {
		if !w.fit(i) {
			continue
		}
		if n := w.board.Acceptor(i).Sessions.Load(); best < 0 || n < least {
			best, least = i, n
		}
	}
	return best
}
