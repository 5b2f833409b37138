package discovery

import (
	"net/netip"
	"slices"
	"time"
)

// set are the addresses that one type of a name stands for. An address comes at once and
// leaves at once; but one that leaves and comes back over and over, as where each answer
// is a part of all there are, stays: after its first return it must have been missing
// for a while that grows.
type set struct {
	now     []ranked // in order
	history map[netip.Addr]flaps
}

// flaps is what is remembered of an address that has left.
type flaps struct {
	left    time.Time // the last time; zero = not yet
	missing time.Time // since when no answer has it, while it stays; zero = the last one had it
	returns int
}

const (
	returnsWithin = time.Minute      // one that comes back later comes anew
	firstPatience = 10 * time.Second // doubles with each return
	maxPatience   = 5 * time.Minute
	maxHistory    = 1024 // of an answer that has other addresses each time
)

func (f flaps) patience() time.Duration {
	return min(firstPatience<<min(f.returns-1, 10), maxPatience)
}

// take brings the set in line with an answer and says whether it changed.
func (s *set) take(found []ranked, now time.Time) (changed bool) {
	next := make([]ranked, 0, len(found))
	has, had := make(map[netip.Addr]bool, len(found)), make(map[netip.Addr]ranked, len(s.now))
	for _, a := range s.now {
		had[a.addr] = a
	}
	for _, a := range found {
		has[a.addr] = true
		f := s.history[a.addr]
		if old, is := had[a.addr]; is {
			a = old
			if !f.missing.IsZero() {
				f.missing = time.Time{}
				s.remember(a.addr, f)
			}
		} else {
			changed = true
			if !f.left.IsZero() && now.Sub(f.left) < returnsWithin {
				f.returns++
				s.remember(a.addr, f)
			}
		}
		next = append(next, a)
	}
	for _, a := range s.now {
		if has[a.addr] {
			continue
		}
		f := s.history[a.addr]
		if f.missing.IsZero() {
			f.missing = now
		}
		if f.returns > 0 && now.Sub(f.missing) < f.patience() {
			next = append(next, a)
		} else {
			changed = true
			f.left, f.missing = now, time.Time{}
		}
		s.remember(a.addr, f)
	}
	s.forget(now)
	slices.SortFunc(next, ranked.compare)
	s.now = next
	return changed
}

func (s *set) remember(a netip.Addr, f flaps) {
	if s.history == nil {
		s.history = map[netip.Addr]flaps{}
	}
	s.history[a] = f
}

// forget drops what is too long ago to count.
func (s *set) forget(now time.Time) {
	if len(s.history) > maxHistory {
		clear(s.history)
	}
	for a, f := range s.history {
		if f.missing.IsZero() && now.Sub(f.left) > 2*maxPatience {
			delete(s.history, a)
		}
	}
}

// clear empties the set. What it knew of flaps it keeps.
func (s *set) clear(now time.Time) (changed bool) {
	changed = len(s.now) > 0
	for _, a := range s.now {
		f := s.history[a.addr]
		f.left, f.missing = now, time.Time{}
		s.remember(a.addr, f)
	}
	s.now = nil
	return changed
}
