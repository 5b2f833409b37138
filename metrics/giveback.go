package metrics

import "time"

// GiveBack cleans up after an acceptor whose process has ended, and must be
// called before another takes its seat: what it held (its gauges) becomes zero,
// its targets are held by so many fewer, its places in queues are free, and its running sessions are counted as
// closed by worker_died, their waits for a backend as closed. It returns how many
// sessions those were, by listener, without the listeners that lost none.
//
// What it lost is what it was given and has not accounted for, rather than its
// gauge: a process can die between counting a connection and raising the gauge.
func (b *Board) GiveBack(seat int) (lost map[ID]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.giveBackLocked(seat)
}

func (b *Board) giveBackLocked(seat int) map[ID]uint64 {
	b.Acceptor(seat) // panics if there is no such seat
	lost := map[ID]uint64{}
	v := b.view(seat)
	for i := range b.used.listeners {
		if c := cellsOf[ListenerCells](v, listenerTable, i); c != nil {
			if n := c.giveBack(time.Duration(Monotonic()), time.Duration(b.header().born)); n != 0 {
				lost[b.listenerLocked(i)] = n
			}
		}
	}
	for i := range b.used.targets {
		if c := cellsOf[TargetCells](v, targetTable, i); c != nil {
			if held := c.Active.Swap(0); held != 0 {
				b.Held()[i].Add(-held)
			}
		}
	}
	for i := range b.used.routes {
		if c := cellsOf[RouteCells](v, routeTable, i); c != nil {
			c.Active.Store(0)
		}
	}
	b.giveBackQueued(v, seat)
	if c := cellsOf[AcceptorCells](v, acceptorTable, 0); c != nil {
		if moving := c.Moving.Swap(0); moving > 0 && moving <= MaxTargets {
			var views [stripes]*view
			for i := range views {
				views[i] = b.view(i)
			}
			b.recount(uint32(moving-1), &views)
		}
		for _, g := range []*Gauge{
			&c.Heartbeat, &c.Sessions, &c.Accepting, &c.PipesOpen, &c.PipesInUse, &c.SpillBytes,
			&c.ThreadID, &c.PID, &c.CPU, &c.Batched, &c.Parked, &c.Generation, &c.Paused, &c.Hung,
		} {
			g.Store(0)
		}
	}
	b.giveBackSources(seat)
	return lost
}

// giveBackQueued takes the sessions of a seat out of all queues. A session that waits
// behind them looks for itself whether it is its turn.
func (b *Board) giveBackQueued(v *view, seat int) {
	for i := range b.used.pools {
		if c := cellsOf[PoolCells](v, poolTable, i); c != nil {
			c.QueueEnds[QueueLeft].Add(uint64(max(c.Queued.Swap(0), 0)))
		}
	}
	for _, q := range b.touchedQueues {
		q.giveBack(seat)
	}
}

// listenerLocked is the ID that was opened with an index. A successor does not
// know the generations of its predecessor's.
func (b *Board) listenerLocked(index uint32) ID {
	if int(index) < len(b.listeners) {
		return b.listeners[index]
	}
	return NewID(uint32(index), 0)
}

// giveBack returns how many sessions were lost.
func (c *ListenerCells) giveBack(now, born time.Duration) uint64 {
	given := c.Accepted.Load() + c.Taken.Load()
	done := c.HandedOff.Load() + total(c.Closed[:]) + total(c.Rejected[:])
	active, opened := c.Active.Swap(0), c.Opened.Swap(0)
	c.HalfClosed.Store(0)
	c.Waited[WaitClosed].Add(uint64(c.Waiting.Swap(0)))
	if given <= done {
		return 0
	}
	lost := given - done
	c.Closed[ReasonWorkerDied].Add(lost)
	c.Duration.observe(lost, meanAge(active, opened, now, born))
	return lost
}

// meanAge is how long sessions that ended together lasted, from when they began on
// the whole: each one's length went with its process, but their sum is exact, and
// so is the mean of the histogram. 0 = not known: Opened is not kept, or, for the
// process was killed between two stores, gives more than the board's age.
func meanAge(active, opened int64, now, born time.Duration) time.Duration {
	if active <= 0 || opened == 0 {
		return 0
	}
	mean := time.Duration((active*int64(now) - opened) / active)
	if mean < 0 || mean > now-born {
		return 0
	}
	return mean
}

func total(cells []Counter) uint64 {
	var sum uint64
	for i := range cells {
		sum += cells[i].Load()
	}
	return sum
}
