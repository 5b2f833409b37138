package control

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/cmd/internal/host"
	"sluice/cmd/internal/moving"
	"sluice/cmd/internal/sessions"
	"sluice/metrics"
	"sluice/proxy"
)

// movement is what ends sessions of a service from outside of the acceptors: kill, backends
// that have left, pools that are rebalanced.
type movement struct {
	*moving.Mover
	s *service

	mu      sync.Mutex
	cutting map[metrics.ID]bool                           // these have left; their numbers are not given away yet
	seen    map[string]map[metrics.ID]metrics.TargetState // of pools that are rebalanced, as they were looked at last
	owing   map[string]bool                               // pools that have a reason for another round
}

const (
	// cutPerSecond is how fast the sessions of a backend that has left are cut: their clients
	// all connect anew.
	cutPerSecond = 1000
	// cutDownPerSecond is the same of one that is down: no client is served there.
	cutDownPerSecond = 10_000
)

func newMovement(s *service) *movement {
	m := &movement{s: s, cutting: map[metrics.ID]bool{}, owing: map[string]bool{}, seen: map[string]map[metrics.ID]metrics.TargetState{}}
	m.Mover = moving.New(moving.Options{Log: s.Log, Survey: s.host.Survey, Until: host.SurveyWithin, Seats: s.placed})
	return m
}

// foresee asks acceptors what they would pick.
func (m *movement) foresee(w proxy.Ways) (answers map[int]proxy.Surveyed, silent []int) {
	return m.Ask(proxy.Survey{Ways: &w})
}

// placed are the numbers of the acceptors that there are.
func (s *service) placed() (numbers []int) {
	for _, a := range s.host.Placement() {
		numbers = append(numbers, a.Number)
	}
	return numbers
}

// committed begins what follows of a Plan that is in force: the sessions of targets that it
// has no more are cut, if their pool wants that, and what joined may be given some.
func (m *movement) committed(before, now *state) {
	if before.plan != nil {
		m.cutLeft(before, now)
	}
	m.look()
}

func (m *movement) cutLeft(before, now *state) {
	var left []metrics.ID
	for i, p := range before.pools {
		c := p.config
		if q, still := now.pool(c.Name); still {
			c = q.config
		}
		if c.Leave != config.LeaveCut {
			continue
		}
		has := now.targetsOf(c.Name)
		for _, t := range before.plan.Pools[i].Targets {
			if !has[t.ID] {
				left = append(left, t.ID)
			}
		}
	}
	if len(left) == 0 {
		return
	}
	m.hold(left, true)
	idleSince := time.Now()
	started := m.Start(moving.Task{
		Name: fmt.Sprintf("backends that left with generation %d", now.generation), Reason: metrics.ReasonBackendLeft, PerSecond: cutPerSecond,
		Ended: func(n int) {
			if n > 0 {
				idleSince = time.Now()
			}
		},
		Next: func() []moving.Portion {
			held, mayCome := m.stillHeld(left, now.generation)
			if len(held) == 0 && !mayCome || time.Since(idleSince) > moving.GiveUpAfter {
				m.hold(left, false)
				return nil
			}
			if len(held) == 0 {
				return []moving.Portion{}
			}
			return []moving.Portion{{Filter: proxy.Filter{Targets: held}, Most: cutPerSecond}}
		},
	})
	if !started {
		m.hold(left, false)
	}
}

// cutDown begins to end the sessions on backends that are down, in a pool that wants that. It
// goes on while there are any, also with those that were still connecting.
func (m *movement) cutDown(pool string) {
	next := func() []moving.Portion {
		held := m.held(m.s.health.Cuts(pool))
		if len(held) == 0 {
			return nil
		}
		return []moving.Portion{{Filter: proxy.Filter{Targets: held, State: proxy.HeldRelaying}, Most: cutDownPerSecond}}
	}
	m.Start(moving.Task{
		Name: "backends of pool " + pool + " that are down", Reason: metrics.ReasonBackendDown, PerSecond: cutDownPerSecond, Next: next,
		Over: func() { // one may have gone down as it ended
			if next() != nil {
				m.cutDown(pool)
			}
		},
	})
}

// hold keeps the numbers of targets from being given to others, or no more.
func (m *movement) hold(ids []metrics.ID, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if on {
			m.cutting[id] = true
		} else {
			delete(m.cutting, id)
		}
	}
}

func (m *movement) holds(id metrics.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cutting[id]
}

// stillHeld are those of some targets that sessions have and that have not come back, and
// whether more may come: an acceptor does not run the Plan yet that lacks them.
func (m *movement) stillHeld(ids []metrics.ID, generation uint64) (held []uint32, mayCome bool) {
	inForce, _ := m.s.shown()
	back := map[metrics.ID]bool{}
	for _, p := range inForce.pools {
		for id := range inForce.targetsOf(p.config.Name) {
			back[id] = true
		}
	}
	for _, a := range m.s.host.Placement() {
		mayCome = mayCome || uint64(m.s.board.Acceptor(a.Number).Generation.Load()) < generation
	}
	return m.held(slices.DeleteFunc(slices.Clone(ids), func(id metrics.ID) bool { return back[id] })), mayCome
}

// held are the indexes of those targets that sessions have.
func (m *movement) held(ids []metrics.ID) (held []uint32) {
	placement := m.s.host.Placement()
	for _, id := range ids {
		for _, a := range placement {
			if m.s.board.Target(a.Number, id).Active.Load() > 0 {
				held = append(held, id.Index())
				break
			}
		}
	}
	return held
}

// targetsOf are those of a pool.
func (s *state) targetsOf(pool string) map[metrics.ID]bool {
	all := map[metrics.ID]bool{}
	for i, p := range s.pools {
		if p.config.Name == pool {
			for _, t := range s.plan.Pools[i].Targets {
				all[t.ID] = true
			}
		}
	}
	return all
}

// look begins a round for each pool that is rebalanced by itself and of which a backend has
// joined, recovered or begun to drain since the last look.
func (m *movement) look() {
	inForce, _ := m.s.shown()
	for _, p := range inForce.pools {
		name, r := p.config.Name, p.config.Rebalance
		m.mu.Lock()
		before, was := m.seen[name]
		if r.PerSecond == 0 {
			delete(m.seen, name)
			delete(m.owing, name)
			m.mu.Unlock()
			continue
		}
		now := m.s.health.States(name)
		m.seen[name] = now
		m.mu.Unlock()
		if m.owed(name) || was && hasReason(before, now) {
			m.owe(name, !m.round(p.config, r)) // where one is under way, another follows
		}
	}
}

func (m *movement) owed(pool string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owing[pool]
}

func (m *movement) owe(pool string, another bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owing, pool)
	if another {
		m.owing[pool] = true
	}
}

// hasReason says whether there is a target that takes sessions and did not before, or one that
// now drains.
func hasReason(before, now map[metrics.ID]metrics.TargetState) bool {
	for id, state := range now {
		if was := before[id]; takes(state) && !takes(was) || drains(state) && !drains(was) {
			return true
		}
	}
	return false
}

func takes(s metrics.TargetState) bool {
	return s == metrics.TargetUp || s == metrics.TargetWarming || s == metrics.TargetPanic
}

func drains(s metrics.TargetState) bool {
	return s == metrics.TargetDraining || s == metrics.TargetDisabled
}

// round moves sessions of a pool until they are spread as weights say, or until as many have
// ended as may; false = one is under way.
func (m *movement) round(c config.Pool, r config.Rebalance) bool {
	loads, _ := m.loads(c.Name)
	left := moving.Budget(loads, r.Share)
	idleSince := time.Now()
	return m.Start(moving.Task{
		Name: "rebalance of pool " + c.Name, Reason: metrics.ReasonRebalanced, Order: proxy.IdlestFirst, PerSecond: r.PerSecond, Jitter: r.Jitter,
		Over: m.look,
		Ended: func(n int) {
			if left -= int64(n); n > 0 {
				idleSince = time.Now()
			}
		},
		Next: func() []moving.Portion {
			loads, warming := m.loads(c.Name)
			over := moving.Spread(loads)
			if left <= 0 || len(over) == 0 && !warming || !warming && time.Since(idleSince) > moving.GiveUpAfter {
				return nil
			}
			portions := []moving.Portion{}
			for _, e := range over {
				portions = append(portions, moving.Portion{Filter: movable(e), Most: int(min(e.Over, left))})
			}
			return portions
		},
	})
}

// movable are the sessions of a target that may be moved: not those that only finish.
func movable(e moving.Excess) proxy.Filter {
	return proxy.Filter{Targets: []uint32{e.Index}, State: proxy.HeldRelaying}
}

// loads are how many sessions the targets of a pool have, and whether the weight of one grows.
func (m *movement) loads(pool string) (loads []moving.Load, warming bool) {
	inForce, _ := m.s.shown()
	i := slices.IndexFunc(inForce.pools, func(p pooled) bool { return p.config.Name == pool })
	if i < 0 {
		return nil, false
	}
	states := m.s.health.States(pool)
	for _, t := range inForce.plan.Pools[i].Targets {
		state := states[t.ID]
		warming = warming || state == metrics.TargetWarming
		loads = append(loads, moving.Load{
			Index: t.ID.Index(), Backend: t.Backend, Address: t.Addr.String(), Backup: t.Backup, Gives: takes(state) || drains(state),
			Sessions: max(0, m.s.board.Held()[t.ID.Index()].Load()), Weight: m.s.board.Weights()[t.ID.Index()].Load(),
		})
	}
	return loads, warming
}

// rebalance does what an operator asks for, also where pools do not do so by themselves. It
// may be called by any goroutine.
func (s *service) rebalance(o admin.RebalanceOrder) admin.Verdict {
	inForce, _ := s.shown()
	p, is := inForce.pool(o.Pool)
	if !is {
		return s.verdict(false, fmt.Sprintf("there is no pool %q", o.Pool), nil)
	}
	r := p.config.Rebalance
	if o.PerSecond > 0 {
		r.PerSecond = o.PerSecond
	}
	if o.Share > 0 {
		r.Share = o.Share
	}
	loads, _ := s.movement.loads(o.Pool)
	over := moving.Spread(loads)
	most := min(moving.Total(over), moving.Budget(loads, r.Share))
	text := fmt.Sprintf("%s of pool %s would end", sessions.Count(int(most)), o.Pool)
	switch {
	case p.config.Pick == config.PickSourceHash:
		return s.verdict(false, fmt.Sprintf("pool %s has pick = %q: a client that connects anew comes to the same backend", o.Pool, p.config.Pick), nil)
	case o.DryRun && r.PerSecond > 0:
		text += fmt.Sprintf(" within about %s, at %d a second", (time.Duration(most) * time.Second / time.Duration(r.PerSecond)).Round(time.Second), r.PerSecond)
	case o.DryRun:
	case r.PerSecond == 0:
		return s.verdict(false, "say how many a second may end, such as -per-second 10: the pool has no rebalance.per_second", nil)
	case most == 0:
		text = fmt.Sprintf("the sessions of pool %s are spread as its weights say", o.Pool)
	case !s.movement.round(p.config, r):
		return s.verdict(false, fmt.Sprintf("pool %s is being rebalanced already", o.Pool), nil)
	default:
		text = fmt.Sprintf("up to %s of pool %s end, %d a second", sessions.Count(int(most)), o.Pool, r.PerSecond)
	}
	v := s.verdict(true, text, nil)
	for _, e := range over {
		v.Changes = append(v.Changes, fmt.Sprintf("%s: %s, %d too many", shown(e.Load), sessions.Count(int(e.Sessions)), e.Over))
	}
	return v
}

func shown(l moving.Load) string {
	if l.Address == l.Backend {
		return l.Backend
	}
	return l.Backend + " (" + l.Address + ")"
}
