package metrics

// Inherit adds what a listener counted to a later one of the same name, in every
// stripe, so that no total falls when the earlier one is forgotten. No acceptor may
// still count for the earlier one. The window does not know: what is inherited looks
// accepted at that moment, for a minute.
func (b *Board) Inherit(later, earlier ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range stripes {
		v := b.view(i)
		if !v.touched(listenerTable, earlier.Index()) {
			continue
		}
		from, to := b.words(listenerTable.place(i, earlier.Index()), listenerTable.size), b.words(listenerTable.place(i, later.Index()), listenerTable.size)
		move(to, from)
	}
}
