package control

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/proxy"
)

// leave is the verb drain: it does what SIGTERM does, and with now what a second one does.
// Asked again, it says how far the drain is. It may be called by any goroutine.
func (s *service) leave(now bool) admin.Verdict {
	first := s.leaving.CompareAndSwap(false, true) && !s.draining.Load()
	var signals int
	if first {
		signals++
	}
	if now {
		signals++
	}
	for range signals {
		select {
		case s.Signals <- syscall.SIGTERM:
		default:
			return s.verdict(false, "the service has signals to heed already: ask again", nil)
		}
	}
	inForce, _ := s.shown()
	limits, sessions := inForce.config.Limits, int64(0)
	for _, st := range inForce.seats {
		sessions += s.board.Acceptor(st.number).Sessions.Load()
	}
	left := fmt.Sprintf("%d sessions", sessions)
	if sessions == 1 {
		left = "1 session"
	}
	switch {
	case now:
		return s.verdict(true, "ends now, and cuts "+left, nil)
	case !first:
		return s.verdict(true, "drains already; left: "+left, nil)
	case limits.DrainDelay > 0:
		return s.verdict(true, fmt.Sprintf("is not ready from now on, and drains in %s: then %s at most for %s", limits.DrainDelay, limits.DrainTimeout, left), nil)
	}
	return s.verdict(true, fmt.Sprintf("drains: %s at most for %s", limits.DrainTimeout, left), nil)
}

// delayDrain tells that the service is about to end, and has it serve on until the
// returned channel fires. It takes no reload any more; names are still looked up.
func (s *service) delayDrain(sig os.Signal, delay time.Duration) <-chan time.Time {
	s.ready.Store(false)
	s.draining.Store(true)
	s.Log.Info("no longer ready: new connections are still taken, and the drain comes later", "signal", fmt.Sprint(sig), "delay", delay.String())
	return time.After(delay)
}

// drain ends the service: all listeners leave.
func (s *service) drain() error {
	s.ready.Store(false)
	s.draining.Store(true)
	s.reloads.end()
	start := time.Now()
	next := s.copyState()
	deadline := start.Add(next.config.Limits.DrainTimeout)
	for _, f := range next.fronts {
		if f.leaving == nil {
			f.leaving = newDeparture(start, deadline)
		} else if f.leaving.deadline.After(deadline) {
			f.leaving.deadline = deadline
		}
	}
	if err := s.publish(next); err != nil {
		s.Log.Error("drain not told to all acceptors", "error", err)
	}
	clean := s.departAll()
	s.watchdog.stop() // acceptors end now, and would look hung
	s.host.Close()
	s.Log.Info("stopped", "clean", clean)
	if !clean {
		return ErrCut
	}
	return nil
}

// cutWithin is how long acceptors that were told to cut their sessions are waited for.
const cutWithin = 2 * time.Second

// departAll waits until every front has left, and returns whether no session was cut.
func (s *service) departAll() (clean bool) {
	tick := time.NewTicker(departStep)
	defer tick.Stop()
	clean = true
	for {
		select {
		case now := <-tick.C:
			s.depart(now)
			if len(s.state.fronts) == 0 {
				return clean
			}
			if since, cut := s.state.cutSince(); cut {
				clean = false
				if now.Sub(since) > cutWithin {
					return false
				}
			}
		case sig := <-s.Signals:
			if isReopen(sig) {
				go s.reopenAccessLog()
				continue
			}
			s.hurried = s.hurried || !isReload(sig)
		case job := <-s.jobs:
			job()
		case seat := <-s.endings:
			s.retire(seat)
		}
	}
}

// cutSince is when the first front was told to cut its sessions.
func (s *state) cutSince() (since time.Time, cut bool) {
	for _, f := range s.fronts {
		if d := f.leaving; d != nil && d.phase == proxy.PhaseCut && (!cut || d.since.Before(since)) {
			since, cut = d.since, true
		}
	}
	return since, cut
}
