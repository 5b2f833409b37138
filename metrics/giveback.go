package metrics

// GiveBack cleans up after an acceptor whose process has ended, and must be
// called before another takes its number: what it held (its gauges) becomes zero,
// and its running sessions are counted as closed by worker_died, their waits for a
// backend as closed. It returns how many sessions those were, by listener, without
// the listeners that lost none.
//
// What it lost is what it was given and has not accounted for, rather than its
// gauge: a process can die between counting a connection and raising the gauge.
func (b *Board) GiveBack(acceptor int) map[string]uint64 {
	lost := map[string]uint64{}
	for s, c := range b.Listeners() {
		if s.Acceptor != acceptor {
			continue
		}
		given := c.Accepted.Load() + c.Taken.Load()
		done := c.HandedOff.Load() + total(c.Closed[:]) + total(c.Rejected[:])
		if given > done {
			c.Closed[ReasonWorkerDied].Add(given - done)
			lost[s.Name] = given - done
		}
		c.Active.Store(0)
		c.HalfClosed.Store(0)
		c.Waited[WaitClosed].Add(uint64(c.Waiting.Swap(0)))
	}
	for s, c := range b.Backends() {
		if s.Acceptor == acceptor {
			c.Active.Store(0)
		}
	}
	for s, c := range b.Acceptors() {
		if s.Acceptor != acceptor {
			continue
		}
		for _, g := range []*Gauge{
			&c.Heartbeat, &c.Sessions, &c.Accepting, &c.PipesOpen, &c.PipesInUse,
			&c.SpillBytes, &c.ThreadID, &c.PID, &c.CPU, &c.Batched,
		} {
			g.Store(0)
		}
	}
	return lost
}

func total(cells []Counter) uint64 {
	var sum uint64
	for i := range cells {
		sum += cells[i].Load()
	}
	return sum
}
