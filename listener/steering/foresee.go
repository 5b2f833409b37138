package steering

// Foresee is the seat that the program picks for the next SYN, if nothing changes before it,
// as search in select.bpf.c finds it: the lowest rank, and of equals the lowest seat. ok is
// false where none of the seats may be picked: then the hash chooses.
func (r *Rows) Foresee(p Policy, seats []int) (seat int, ok bool) {
	var load, turn int64
	for _, n := range seats {
		row := r.Row(n)
		if row.Flags.Load() != 0 {
			continue
		}
		l, t := int64(0), int64(row.round.Load())
		if p != RoundRobin {
			l = r.Load(n)
		}
		if !ok || l < load || l == load && t < turn {
			seat, load, turn, ok = n, l, t, true
		}
	}
	return seat, ok
}

// Load is how many connections a seat's acceptor holds or is about to get.
func (r *Rows) Load(seat int) int64 { return r.Row(seat).load() }

func (r *Row) load() int64 { return int64(r.Selected.Load()) - r.Gone.Load() }
