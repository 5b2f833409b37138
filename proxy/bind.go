package proxy

import (
	"fmt"
	"os"

	"sluice/metrics"
	"sluice/proxy/access"
	"sluice/proxy/pool"
)

// View is what an acceptor is given beside a Plan: descriptors, which stay the
// caller's, and shared memory. A descriptor must stay open until the acceptor's
// Generation shows a Plan in which its listener is closed or gone.
type View struct {
	Own    Sockets
	Groups map[metrics.ID]Group   // of each of the Plan's listeners
	Mail   []int                  // by seat, where to pass a connection on to; -1 = none is there
	Access map[uint64]*access.Set // by the number that listeners' Guards have
	Netns  map[uint64]*os.File    // network namespaces, by the number that pools have; 0 = the acceptor's own, which is there if another is. They are kept as long as a Bound needs them
}

// Sockets are one seat's descriptors.
type Sockets struct {
	Listeners map[metrics.ID]int // listening
	Mail      int                // where passed-on connections arrive; -1 = nowhere
}

// Group is what an acceptor knows of a listener's SO_REUSEPORT group.
type Group struct {
	Rows    []Row // by seat; nil where nothing steers by them
	HandOff bool  // no program picks by the rows: an acceptor passes on what is too much for it
}

// Bound is a Plan made ready for one acceptor: all that can fail or takes long has
// been done. It is not changed any more, but for what its pickers remember.
type Bound struct {
	plan      *Plan
	phase     Phase // of the acceptor's own seat
	own       Sockets
	mail      []int
	siblings  []sibling
	listeners []*listener // in the Plan's order
	byIndex   []*listener // the same by ID.Index; nil = none
	pools     map[metrics.ID]*pooled
}

// sibling is an acceptor of the Plan, this one included.
type sibling struct {
	seat  int
	cells *metrics.AcceptorCells
}

// listener is an acceptor's part of a listener: its socket and what becomes of a
// connection that is accepted there.
type listener struct {
	Listener
	Group
	socket   int   // this acceptor's
	phase    Phase // in which this acceptor is with it
	pool     *pooled
	inquiry  *inquiry // nil = nothing is asked before a backend is dialed
	cells    *metrics.ListenerCells
	admitted *access.Set  // who may connect; nil = everybody
	settling bool         // on the list of those whose rows are looked at
	rejitter bool         // the running sessions are given a new max_duration
	retune   bool         // and their backends' sockets a new Tuning
	repace   bool         // and their bytes new Paces
	paced    [2]*paced    // by direction; nil = nothing bounds it
	others   []metrics.ID // see addresses
	first    metrics.ID
}

// pooled is an acceptor's part of a pool.
type pooled struct {
	*pool.Pool
	prepared *pool.Prepared
	cells    *metrics.PoolCells
	picker   *pool.Picker

	budget     *budget // of retries; nil = no bound. The loop's alone
	complained int64   // clock at which the operator last heard of a lack
	origins    origins
	network    *network   // nil = the acceptor's own. See network_linux.go
	plain      bool       // it was told that the kernel has no Multipath TCP
	own        []*selfish // by target: those that may be this service itself; nil = none is. See loop.go
}

// Bind makes plan ready. It is called outside of the loop, one call at a time, and
// changes nothing that the loop sees. After an error the Plan cannot be committed.
func (a *Acceptor) Bind(plan *Plan, v View) (*Bound, error) {
	seat, ok := plan.Seat(a.Seat)
	if !ok {
		return nil, fmt.Errorf("acceptor %d has no place in plan %d", a.Seat, plan.Generation)
	}
	if err := plan.Check(); err != nil {
		return nil, err
	}
	b := &Bound{plan: plan, phase: seat.Phase, own: v.Own, mail: v.Mail, pools: map[metrics.ID]*pooled{}}
	for _, s := range plan.Seats {
		b.siblings = append(b.siblings, sibling{s.Number, a.Board.Acceptor(s.Number)})
	}
	if err := b.bindPools(a, v, a.lastBound); err != nil {
		return nil, fmt.Errorf("acceptor %d: %w", a.Seat, err)
	}
	if err := b.bindListeners(a, v); err != nil {
		return nil, fmt.Errorf("acceptor %d: %w", a.Seat, err)
	}
	a.lastBound = b
	return b, nil
}

// bindPools keeps the picker of a pool whose targets are as before: it goes on with
// its turns, whichever of the two Plans runs.
func (b *Bound) bindPools(a *Acceptor, v View, before *Bound) (err error) {
	var last *Plan
	if before != nil {
		last = before.plan
	}
	prepared := b.plan.prepare(last)
	for i := range b.plan.Pools {
		p := &b.plan.Pools[i]
		made := &pooled{Pool: p, prepared: prepared[p.ID], cells: a.Board.Pool(a.Seat, p.ID)}
		if before != nil {
			if old := before.pools[p.ID]; old != nil && old.prepared == made.prepared {
				made.picker = old.picker
			}
		}
		if made.picker == nil {
			made.picker = pool.NewPicker(made.prepared, a.Seat, pool.StateOf(a.Board, &a.now))
		}
		made.budget = budgetOf(p.RetryBudget, before.budget(p.ID))
		made.own = selfishOf(p, b.plan.Own)
		made.origins = newOrigins(made, a.Seat)
		if made.network, err = networkOf(p, v); err != nil {
			return err
		}
		b.pools[p.ID] = made
	}
	return nil
}

func (b *Bound) bindListeners(a *Acceptor, v View) error {
	addresses := b.plan.byListener()
	for _, l := range b.plan.Listeners {
		made := &listener{
			Listener: l, Group: v.Groups[l.ID], socket: -1, phase: max(l.Phase, b.phase),
			pool: b.pools[l.Pool], cells: a.Board.Listener(a.Seat, l.ID), others: addresses[l.Name].others(&l), first: addresses[l.Name].first(&l),
		}
		for d := range made.paced {
			made.paced[d] = newPaced(l.Paces.Session[d], l.Paces.All[d], &a.Board.Spent()[made.first.Index()][d])
		}
		made.inquiry = newInquiry(&made.Listener, b.pools)
		if fd, ok := v.Own.Listeners[l.ID]; ok {
			made.socket = fd
		}
		if made.socket < 0 && made.phase == PhaseServing {
			return fmt.Errorf("listener %q: no socket", l.Name)
		}
		if made.admitted = v.Access[l.Guard.Access]; made.admitted == nil && l.Guard.Access != 0 {
			return fmt.Errorf("listener %q: no access set %d", l.Name, l.Guard.Access)
		}
		b.listeners = append(b.listeners, made)
		for int(l.ID.Index()) >= len(b.byIndex) {
			b.byIndex = append(b.byIndex, nil)
		}
		b.byIndex[l.ID.Index()] = made
	}
	return nil
}

// find is the listener that an ID from elsewhere names; nil if there is none, or
// another one by now.
func (b *Bound) find(id metrics.ID) *listener {
	if i := int(id.Index()); i < len(b.byIndex) && b.byIndex[i] != nil && b.byIndex[i].ID == id {
		return b.byIndex[i]
	}
	return nil
}

// target finds a target and its pool by ID; nil if the Plan does not have it.
func (b *Bound) target(id metrics.ID) (*pooled, *pool.Target) {
	at, ok := b.plan.targets[id]
	if !ok {
		return nil, nil
	}
	p := b.pools[b.plan.Pools[at.pool].ID]
	return p, &p.Targets[at.target]
}

// phaseAt is the phase in which a seat is with l.
func (a *Acceptor) phaseAt(l *listener, seat int) Phase {
	if seat == a.Seat {
		return l.phase
	}
	s, _ := a.bound.plan.Seat(seat)
	return max(l.Listener.Phase, s.Phase)
}

// listenerAt is the listener with an index, or nil.
func (a *Acceptor) listenerAt(index int) *listener {
	if index < 0 || index >= len(a.bound.byIndex) {
		return nil
	}
	return a.bound.byIndex[index]
}

// listenerOf is the listener of a session. It is there: see Plan.
func (a *Acceptor) listenerOf(s *session) *listener { return a.bound.byIndex[s.listener] }

// targetOf are the cells of the target that a session was given.
func (a *Acceptor) targetOf(s *session) *metrics.TargetCells {
	return a.Board.Target(a.Seat, metrics.ID(s.target))
}
