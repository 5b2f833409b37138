package listener

import "slices"

// order is the kernel's order of the sockets that listen on one address. A program
// that chooses by number means these. Two groups of one process can have one of
// them between them (Options.Beside).
//
//	listen(2) appends          the last fills the hole of the one that leaves
//
//	0 1 2 3  ─ Add(7) ─►  0 1 2 3 7  ─ Remove(1) ─►  0 7 2 3
type order struct{ members []member }

type member struct {
	group *Group
	seat  int
}

func (o *order) add(g *Group, seat int) { o.members = append(o.members, member{g, seat}) }

// has says whether a seat's socket listens.
func (o *order) has(g *Group, seat int) bool { return slices.Contains(o.members, member{g, seat}) }

func (o *order) remove(g *Group, seat int) {
	last := len(o.members) - 1
	for i, m := range o.members {
		if m == (member{g, seat}) {
			o.members[i] = o.members[last]
			o.members = o.members[:last]
			return
		}
	}
}

// Order is the seats whose sockets listen, by the kernel's number. -1 stands for a
// socket of another group on the same address. Sockets of other processes are not
// in it: where the group is shared, the numbers mean nothing.
func (g *Group) Order() []int {
	seats := make([]int, len(g.order.members))
	for i, m := range g.order.members {
		seats[i] = -1
		if m.group == g {
			seats[i] = m.seat
		}
	}
	return seats
}
