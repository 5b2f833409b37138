package metrics

// An ID begins (Open...), and its index may have been another thing's before. A
// seat leaves (Retire), and its number may become another acceptor's. Both times
// what the next one finds is zero.

// OpenListener begins an ID: its cells are zero in every stripe from then on. No
// acceptor may still hold what had the index before. It costs nothing the first
// time an index is used, about a system call for each seat in use otherwise.
func (b *Board) OpenListener(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openLocked(listenerTable, id.Index(), &b.used.listeners)
	b.listeners = noted(b.listeners, id)
}

// noted has an ID at its index.
func noted(ids []ID, id ID) []ID {
	for len(ids) <= int(id.Index()) {
		ids = append(ids, NewID(uint32(len(ids)), 0))
	}
	ids[id.Index()] = id
	return ids
}

// OpenPool is OpenListener for a pool. Its queue is empty, and it is not in panic.
func (b *Board) OpenPool(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openLocked(poolTable, id.Index(), &b.used.pools)
	b.clearQueue(id.Index())
	b.Panics()[id.Index()].Store(0)
}

// OpenTarget is OpenListener for a target. Its Held, Weight, Failing, Strikes, Speed and Limit are zero, too.
func (b *Board) OpenTarget(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openLocked(targetTable, id.Index(), &b.used.targets)
	b.targets = noted(b.targets, id)
	b.Held()[id.Index()].Store(0)
	b.Weights()[id.Index()].Store(0)
	b.Failing()[id.Index()].Swap(0)
	b.Strikes()[id.Index()].Clear()
	b.Speeds()[id.Index()].clear()
	b.Limits()[id.Index()].Store(0)
	b.Weighed().Add(1)
}

// OpenRoute is OpenListener for a route.
func (b *Board) OpenRoute(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openLocked(routeTable, id.Index(), &b.used.routes)
}

func (b *Board) openLocked(t table, index uint32, used *uint32) {
	t.place(0, index) // panics before anything is changed
	if index < *used {
		b.clear(t, index)
	}
	*used = max(*used, index+1)
}

// Retire ends a seat that has left for good: nothing of it may run any more. Its
// counters go over to the retired stripe, so that no total falls, and its memory
// goes back to the kernel. What it still held is given back first (GiveBack).
func (b *Board) Retire(seat int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveBackLocked(seat) // so that all gauges are zero, and what is left are counters
	v := b.view(seat)
	b.foldLocked(v, listenerTable, b.used.listeners)
	b.foldLocked(v, poolTable, b.used.pools)
	b.foldLocked(v, targetTable, b.used.targets)
	b.foldLocked(v, routeTable, b.used.routes)
	b.drop(seat)
	b.lives[seat]++
}

func (b *Board) foldLocked(v *view, t table, used uint32) {
	for i := range used {
		if v.touched(t, i) {
			b.fold(t, i, b.words(t.place(v.stripe, i), t.size))
		}
	}
}
