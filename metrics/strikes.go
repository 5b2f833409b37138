package metrics

import "sync/atomic"

// Strikes is the cell beside a target's Failing: what is held against one that is picked
// like any other. All acceptors share it, so what happens in a row does so over all of them.
type Strikes struct{ word atomic.Uint64 }

// Strike is the value of Strikes. Each count stops at 255.
type Strike struct {
	Connects  uint8 // connects in a row that failed
	Closes    uint8 // sessions in a row that it closed early
	Ejections uint8 // ejections in a row for that
}

// Load returns what is held against the target; the zero Strike = nothing.
func (s *Strikes) Load() Strike { return strikeOf(s.word.Load()) }

// Change lets f change it whole, and returns what it is then. f may be called several times.
func (s *Strikes) Change(f func(*Strike)) Strike {
	for {
		was := s.word.Load()
		now := strikeOf(was)
		f(&now)
		if s.word.CompareAndSwap(was, now.word()) {
			return now
		}
	}
}

// Clear forgets all of it.
func (s *Strikes) Clear() {
	if s.word.Load() != 0 { // else the cache line stays with all that look
		s.word.Store(0)
	}
}

func strikeOf(word uint64) Strike { return Strike{uint8(word), uint8(word >> 8), uint8(word >> 16)} }

func (s Strike) word() uint64 {
	return uint64(s.Connects) | uint64(s.Closes)<<8 | uint64(s.Ejections)<<16
}

// More is one more, up to where a count stops.
func More(n uint8) uint8 { return min(n, 254) + 1 }
