package metrics

import "time"

// Limit is the most sessions that a target may have at a time over all acceptors, and the
// pool whose queue is told when one ends. It is one word, so it changes whole.
//
//	pool's index │ sessions
//	     32      │    32
type Limit int64

// NewLimit makes the limit of a target of a pool. 0 sessions = no limit, which is 0.
func NewLimit(sessions int, pool ID) Limit {
	if sessions <= 0 {
		return 0
	}
	return Limit(int64(pool.Index())<<32 | int64(min(sessions, 1<<31-1)))
}

// Sessions is the limit; there must be one.
func (l Limit) Sessions() int64 { return int64(l & (1<<32 - 1)) }

// Pool is the index of the target's pool. A worker that writes at random may have written
// it, so it is kept within its bounds.
func (l Limit) Pool() uint32 { return uint32(l>>32) % MaxPools }

// recount mends Held of a target whose count an acceptor was changing as its process died:
// it may be one too many for good, and that would be a place lost. All acceptors that change
// the count of a limited target say so before and after (AcceptorCells.Moving). So where
// none does, and nothing has changed from one look to the next, what Held is above the sum
// of Active is what the dead one left. It is looked at three times, and given up after a
// while: then it is one too many, and never too few.
func (b *Board) recount(index uint32, views *[stripes]*view) {
	const looks, tries = 3, 200
	var before [2]int64
	same := 0
	for range tries {
		held, sum, quiet := b.countLocked(index, views)
		if now := [2]int64{held, sum}; !quiet || now != before {
			before, same = now, 0
		} else {
			same++
		}
		switch {
		case quiet && held <= sum:
			return
		case same < looks:
			time.Sleep(100 * time.Microsecond)
		case b.Held()[index].CompareAndSwap(held, sum):
			return
		}
	}
}

// countLocked returns the two counts of a target's sessions; quiet: no acceptor is changing them.
func (b *Board) countLocked(index uint32, views *[stripes]*view) (held, sum int64, quiet bool) {
	moves := func() bool {
		for _, v := range views {
			if c := cellsOf[AcceptorCells](v, acceptorTable, 0); c != nil && c.Moving.Load() == int64(index)+1 {
				return true
			}
		}
		return false
	}
	if moves() {
		return 0, 0, false
	}
	held = b.Held()[index].Load()
	for _, v := range views {
		if c := cellsOf[TargetCells](v, targetTable, index); c != nil {
			sum += c.Active.Load()
		}
	}
	return held, sum, !moves() && b.Held()[index].Load() == held
}
