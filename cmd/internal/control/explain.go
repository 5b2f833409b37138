package control

import (
	"context"
	"fmt"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/cmd/internal/explain"
	"sluice/listener/steering"
	"sluice/metrics"
)

// explain says where a client would go. It may be called by any goroutine.
func (s *service) explain(ctx context.Context, q admin.ExplainQuery) (admin.Explanation, error) {
	now, _ := s.view()
	return explain.Explain(q, now, func() (*explain.View, func(), error) { return s.viewOfFile(ctx, q.Config) })
}

// view is what explanations look at: what is in force. It reads a few words of shared memory for
// each listener and acceptor.
func (s *service) view() (v *explain.View, inForce *state) {
	v = &explain.View{Targets: s.board, Service: s.board, Clock: metrics.Monotonic(), Draining: s.draining.Load(), Ask: s.movement.foresee}
	v.Health, _ = s.health.Snapshot()
	s.mu.Lock() // the goroutine that closes a front's rows holds it, and has taken the front out of the state before
	defer s.mu.Unlock()
	v.Plan = s.state.plan
	for _, p := range s.state.pools {
		v.Pools = append(v.Pools, explain.Pool{Config: p.config, Queue: p.id})
	}
	for _, st := range s.state.seats {
		v.Acceptors = append(v.Acceptors, explain.Acceptor{Number: st.number, State: explain.StateOf(s.board.Acceptor(st.number), st.leaving != nil, s.state.generation)})
	}
	for _, f := range serving(s.state.fronts) {
		l := explain.Listener{ID: f.id, Config: f.config, Address: f.group.Address(), Steering: s.steeringLocked(f)}
		if f.admitted != nil {
			l.Access = f.admitted.set
		}
		v.Listeners = append(v.Listeners, l)
	}
	return v, s.state
}

// steeringLocked is what steers to a front that serves.
func (s *service) steeringLocked(f *front) explain.Steering {
	e := explain.Steering{Policy: f.steered.shown().Effective, Next: explain.Unknown}
	for _, st := range s.state.seats {
		load := s.board.Listener(st.number, f.id).Active.Load()
		if f.choice.picked || f.choice.handOff {
			load = f.steered.rows.Load(st.number)
		}
		e.Loads = append(e.Loads, load)
	}
	serving := s.state.seats.serving()
	switch policy, _ := steering.ParsePolicy(e.Policy); {
	case policy == steering.Least || policy == steering.RoundRobin:
		e.Next = explain.Nobody
		if next, ok := f.steered.rows.Foresee(policy, serving); ok {
			e.Next = next
		}
	case len(serving) == 1:
		e.Next = serving[0]
	}
	return e
}

// viewOfFile is what a reload would make of a file. It is built as a reload builds it, with
// numbers and a board of its own, which done gives back: nothing of it is seen outside.
//
// Like a reload it is one at a time, follows the files that it names, and waits for names.
func (s *service) viewOfFile(ctx context.Context, path string) (v *explain.View, done func(), err error) {
	s.reloads.one.Lock()
	defer s.reloads.one.Unlock()
	if s.ReadAt == nil {
		return nil, nil, fmt.Errorf("this service takes no file")
	}
	c, _, err := s.ReadAt(path)
	if err != nil {
		return nil, nil, err
	}
	defer s.alsoFollow(c)()
	c = s.withFiles(c)
	defer s.alsoLookUp(ctx, c)()
	board, err := metrics.NewBoard()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			board.Close()
		}
	}()
	now, inForce := s.view()
	then := &state{config: config.Keep(inForce.config, c), generation: inForce.generation + 1}
	then.addresses = s.resolver.known(then.config)
	then.seats, _, _ = inForce.seats.resized(then.config.Acceptors.Number(), nil, time.Now())
	v = &explain.View{Targets: board, Service: s.board, Clock: now.Clock, Draining: now.Draining}
	for _, number := range then.seats.serving() {
		v.Acceptors = append(v.Acceptors, explain.Acceptor{Number: number, State: explain.Ready})
	}
	if err := s.addListeners(v, then, inForce); err != nil {
		return nil, nil, err
	}
	ledger := newLedger()
	if err := then.gatherPools(&state{}, ledger, board); err != nil {
		return nil, nil, err
	}
	if err := then.makePlan(ledger, board); err != nil {
		return nil, nil, err
	}
	then.limit(board)
	v.Plan = then.plan
	for _, p := range then.pools {
		v.Pools = append(v.Pools, explain.Pool{Config: p.config})
	}
	v.Inherit(now)
	return v, func() { board.Close() }, nil
}

// addListeners gives the listeners of then fronts without sockets, and numbers: those of the
// fronts that have their addresses now, so that what they hold counts for their limits, or
// unused ones, which on the service's board are zero.
func (s *service) addListeners(v *explain.View, then, inForce *state) error {
	has, used := inForce.byAddress(), map[uint32]bool{}
	for _, f := range inForce.fronts {
		used[f.id.Index()] = true
	}
	unused := metrics.MaxListeners
	for _, at := range addressesOf(then.config) {
		l := explain.Listener{Config: at.listener, Address: at.bind.Address}
		if was := has[at.key()]; was != nil && was.keeps(at.listener, at.bind) {
			l.ID, l.Address = was.id, was.group.Address()
		} else {
			for unused--; used[uint32(unused)]; unused-- {
			}
			if unused < 0 {
				return fmt.Errorf("there is no place for more listeners")
			}
			l.ID = metrics.NewID(uint32(unused), 1)
		}
		var err error
		if l.Access, err = s.setOf(at.listener.Access); err != nil {
			return fmt.Errorf("listener %q: %w", at.listener.Name, err)
		}
		f := &front{id: l.ID, config: at.listener, bind: at.bind}
		c := choose(then.config.Acceptors, f, len(v.Acceptors), s.support)
		l.Steering = explain.Steering{Policy: c.foreseen(then.config.Acceptors, f, s.support), Next: explain.Unknown}
		for _, a := range v.Acceptors {
			l.Steering.Loads = append(l.Steering.Loads, s.board.Listener(a.Number, f.id).Active.Load())
		}
		then.fronts, v.Listeners = append(then.fronts, f), append(v.Listeners, l)
	}
	return nil
}
