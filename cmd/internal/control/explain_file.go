package control

import (
	"context"
	"fmt"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy/access"
)

// prospectOf is what a reload would make of a file. It is built as a reload builds it, with
// numbers and a board of its own, so that nothing of it is seen outside. What targets have
// now (sessions, whether they fail, what checks and operators say) is copied there. done gives
// it back.
//
// Like a reload it is one at a time, follows the files that it names, and waits for names.
func (s *service) prospectOf(ctx context.Context, path string) (p *prospect, done func(), err error) {
	s.reloads.one.Lock()
	defer s.reloads.one.Unlock()
	if s.ReadAt == nil {
		return nil, nil, fmt.Errorf("this service takes no file")
	}
	c, _, err := s.ReadAt(path)
	if err != nil {
		return nil, nil, err
	}
	inForce, _ := s.shown()
	s.follow(inForce.config, c)
	s.files.Again()
	s.resolver.follow(inForce.config, c)
	defer func() { // with what is in force then
		inForce, _ := s.shown()
		s.follow(inForce.config)
		s.resolver.follow(inForce.config)
	}()
	s.resolver.await(ctx)
	c = s.withFiles(config.Keep(inForce.config, c))
	board, err := metrics.NewBoard()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			board.Close()
		}
	}()
	p = &prospect{state: &state{config: c, addresses: s.resolver.known(c), generation: inForce.generation + 1}, board: board, sets: map[metrics.ID]*access.Set{}}
	if err := p.openAs(s, inForce); err != nil {
		return nil, nil, err
	}
	ledger := newLedger()
	if err := p.gatherPools(&state{}, ledger, board); err != nil {
		return nil, nil, err
	}
	if err := p.makePlan(ledger, board); err != nil {
		return nil, nil, err
	}
	p.limit(board)
	states, _ := s.health.Snapshot()
	p.copyTargets(s.board, inForce, states)
	p.inForce = inForce.idOfPool
	p.steering = func(f *front) admin.ExplainedSteering { return s.steeringOf(p.state, inForce, f) }
	return p, func() { board.Close() }, nil
}

// openAs gives the listeners fronts without sockets, and numbers: those of the fronts that
// have their addresses now, so that what they hold counts for their limits, or unused ones.
func (p *prospect) openAs(s *service, inForce *state) error {
	p.seats = inForce.seats
	has := inForce.byAddress()
	used := map[metrics.ID]bool{}
	for _, f := range inForce.fronts {
		used[f.id] = true
	}
	unused := uint32(metrics.MaxListeners)
	for _, at := range addressesOf(p.config) {
		f := &front{config: at.listener, bind: at.bind}
		if was := has[at.key()]; was != nil && was.keeps(at.listener, at.bind) {
			f.id, f.group = was.id, was.group // of which nothing but the address is asked
		} else {
			for f.id = metrics.ID(0); f.id == 0; {
				if unused == 0 {
					return fmt.Errorf("there is no place for more listeners")
				}
				unused--
				if id := metrics.NewID(unused, newListener); !usesIndex(used, unused) {
					f.id = id
				}
			}
		}
		set, err := s.setOf(at.listener.Access)
		if err != nil {
			return fmt.Errorf("listener %q: %w", at.listener.Name, err)
		}
		p.sets[f.id] = set
		p.fronts = append(p.fronts, f)
	}
	return nil
}

// newListener is the generation of a number that nobody has: generations are counted from 1.
const newListener = 1<<48 - 1

func usesIndex(used map[metrics.ID]bool, index uint32) bool {
	for id := range used {
		if id.Index() == index {
			return true
		}
	}
	return false
}

// copyTargets brings what targets have now. A weight in force follows the file's where it is
// neither an operator's nor that of a backend which is down.
func (p *prospect) copyTargets(from *metrics.Board, inForce *state, states map[metrics.ID]metrics.Health) {
	p.health = map[metrics.ID]metrics.Health{}
	type known struct {
		id     metrics.ID
		weight int
	}
	now := map[target]known{}
	for i := range inForce.plan.Pools {
		q := &inForce.plan.Pools[i]
		for _, t := range q.Targets {
			now[target{q.Name, t.Backend, t.Addr}] = known{t.ID, t.Weight}
		}
	}
	for i := range p.plan.Pools {
		q := &p.plan.Pools[i]
		checked := p.pools[i].config.Health.Check != config.CheckOff && p.pools[i].config.Health.Start != config.StartUp
		for _, t := range q.Targets {
			to := t.ID.Index()
			was, there := now[target{q.Name, t.Backend, t.Addr}]
			if !there {
				if checked {
					p.board.Weights()[to].Store(0)
				}
				continue
			}
			at := was.id.Index()
			p.board.Held()[to].Store(from.Held()[at].Load())
			p.board.Failing()[to].Swap(from.Failing()[at].Load())
			h := states[was.id]
			p.health[t.ID] = h
			weight := from.Weights()[at].Load()
			if h.Operator == nil || h.Operator.Weight == nil {
				weight = weight * int64(t.Weight) / int64(was.weight)
			}
			p.board.Weights()[to].Store(weight)
		}
	}
}

// steeringOf says how acceptors would be chosen.
func (s *service) steeringOf(then, inForce *state, f *front) admin.ExplainedSteering {
	n := then.config.Acceptors.Number()
	_, isUnix := f.bind.UnixPath()
	c := choose(then.config.Acceptors, f.config.Share, isUnix, n, s.support)
	e := admin.ExplainedSteering{Policy: then.config.Acceptors.Steering, Acceptors: []admin.ExplainedAcceptor{}}
	switch {
	case isUnix:
		e.Policy = effectiveShared
	case n == 1:
		e.Policy = steering.Hash.String()
	case c.handOff:
		e.Policy = effectiveHandOff
	case e.Policy == steering.Auto.String():
		e.Policy = steering.Least.String()
	}
	e.Text = steeringWords(e.Policy, n)
	for _, number := range then.seatsAfter(inForce) {
		e.Acceptors = append(e.Acceptors, admin.ExplainedAcceptor{Number: number, State: stateReady, Load: s.board.Listener(number, f.id).Active.Load()})
	}
	return e
}

// seatsAfter are the numbers of acceptors that would serve: those that do stay as long as
// they are wanted, the highest leave first, the lowest unused come.
func (s *state) seatsAfter(inForce *state) []int {
	numbers := inForce.seats.serving()
	taken := seating{}
	taken = append(taken, inForce.seats...)
	for len(numbers) < s.config.Acceptors.Number() {
		next := taken.vacant()
		if next < 0 {
			break
		}
		numbers, taken = append(numbers, next), append(taken, &seat{number: next})
	}
	return numbers[:min(len(numbers), s.config.Acceptors.Number())]
}
