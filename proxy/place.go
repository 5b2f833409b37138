package proxy

import "sluice/metrics"

// A target with max_sessions has that many places. A session takes one before it connects
// and gives it back when its connection is closed.
//
// Held of the board says how many are taken over all acceptors: it is raised only where it
// is below the limit, so no two get the last one. Active says which of them are this
// acceptor's, should its process die; and Moving that the two are being changed, so that
// GiveBack can tell what a death in between has left.

// takePlaceAt counts one more session at a target with a limit, unless it is full.
func (a *Acceptor) takePlaceAt(target uint16, l metrics.Limit, c *metrics.TargetCells) bool {
	held := &a.Board.Held()[target]
	a.cells.Moving.Store(int64(target) + 1)
	defer a.cells.Moving.Store(0)
	for {
		n := held.Load()
		if n >= l.Sessions() {
			return false
		}
		if held.CompareAndSwap(n, n+1) {
			c.Active.Add(1)
			return true
		}
	}
}

// givePlaceBack counts one less, and tells the session that waits for it.
func (a *Acceptor) givePlaceBack(target uint16, l metrics.Limit, c *metrics.TargetCells) {
	a.cells.Moving.Store(int64(target) + 1)
	c.Active.Add(-1)
	a.Board.Held()[target].Add(-1)
	a.cells.Moving.Store(0)
	a.callFirst(l.Pool())
}
