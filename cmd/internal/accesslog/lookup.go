package accesslog

// Targets are the indexes of the targets that is says yes to, of the latest with each index:
// that of a target with sessions is given to no other.
func (n *Names) Targets(is func(Target) bool) []uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.targets.indexes(is)
}

// Listeners are the same of listeners.
func (n *Names) Listeners(is func(Listener) bool) []uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.listeners.indexes(is)
}

// Target is the latest with an index; the zero one if there is none.
func (n *Names) Target(index uint32) Target {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.targets.latest(index)
}

// Listener is the same of a listener.
func (n *Names) Listener(index uint32) Listener {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.listeners.latest(index)
}

func (n named[T]) indexes(is func(T) bool) (all []uint32) {
	for i := range n {
		if e := &n[i][0]; e.known && is(e.value) {
			all = append(all, uint32(i))
		}
	}
	return all
}

func (n named[T]) latest(index uint32) (value T) {
	if int(index) < len(n) {
		value = n[index][0].value
	}
	return value
}
