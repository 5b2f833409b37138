package host

// rescue begins to serve a hung sibling's sockets that were given for it, or stops that.
func (h *holdings) rescue(hung int, on bool) {
	if !h.running {
		return
	}
	if on {
		h.lent[hung] = h.stage(hung)
		delete(h.staged, hung)
		h.acceptor.Rescue(hung, h.lent[hung])
		return
	}
	had := h.lent[hung]
	delete(h.lent, hung)
	if had == nil {
		return
	}
	h.acceptor.Rescue(hung, nil)
	g := &gone{}
	for _, fd := range had.Listeners {
		g.fds = append(g.fds, fd)
	}
	if had.Mail >= 0 {
		g.fds = append(g.fds, had.Mail)
	}
	// The turn under way may not have heard it, and the next one hears it in its
	// middle: from the third on, none uses them.
	begun := h.cells.Turns.Load()
	go closeWhen(func() bool {
		h.acceptor.Rescue(h.seat, nil) // means nothing, but a loop that has nothing to do turns
		return h.cells.Turns.Load() >= begun+3
	}, g)
}
