package control

import (
	"cmp"
	"net/netip"
	"slices"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/health"
	"sluice/cmd/internal/host"
	"sluice/listener/netns"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// state is what a service consists of. It is changed by making another one, which is
// prepared whole and then committed; seats and fronts in it are copied where they differ,
// and only what they stand for (sockets, steering) is shared.
type state struct {
	config     config.Config
	sha256     string // of the file
	seats      seating
	fronts     []*front // in the order of the configuration, then those that leave
	pools      []pooled // the same
	addresses  addresses
	routes     map[routeName]metrics.ID
	totals     totals
	plan       *proxy.Plan
	generation uint64
}

// pooled is a pool that is in the Plan: it is configured, or a front that leaves still
// needs it.
type pooled struct {
	id      metrics.ID
	config  config.Pool
	network *netns.Namespace // where its backends are connected to from; nil = sluice's own
}

// target names one address of a backend of a pool.
type target struct {
	pool, backend string
	addr          netip.AddrPort
}

// ledger holds the numbers of all things of a service.
type ledger struct {
	listeners *ids[frontName]
	pools     *ids[string]
	targets   *ids[target]
	routes    *ids[routeName]
}

// routeName names a route, whatever its listener is bound to.
type routeName struct{ listener, route string }

// frontName tells apart a listener and its predecessor of the same name that leaves.
type frontName struct {
	name string
	life uint64 // counts the fronts of a service
}

func newLedger() *ledger {
	return &ledger{
		newIDs[frontName]("listeners", metrics.MaxListeners), newIDs[string]("pools", metrics.MaxPools), newIDs[target]("backend addresses", metrics.MaxTargets),
		newIDs[routeName]("routes", metrics.MaxRoutes),
	}
}

// front finds the one that serves under a name.
func (s *state) front(name string) *front {
	i := slices.IndexFunc(s.fronts, func(f *front) bool { return f.config.Name == name && f.leaving == nil })
	if i < 0 {
		return nil
	}
	return s.fronts[i]
}

// find is the front with a number.
func (s *state) find(id metrics.ID) *front {
	i := slices.IndexFunc(s.fronts, func(f *front) bool { return f.id == id })
	if i < 0 {
		return nil
	}
	return s.fronts[i]
}

func (s *state) pool(name string) (pooled, bool) {
	i := slices.IndexFunc(s.pools, func(p pooled) bool { return p.config.Name == name })
	if i < 0 {
		return pooled{}, false
	}
	return s.pools[i], true
}

// gatherPools lists the configured pools and those that leaving fronts need, which stay
// as they were.
func (s *state) gatherPools(before *state, l *ledger, board *metrics.Board) error {
	s.pools = nil
	add := func(c config.Pool) error {
		id, isNew, err := l.pools.mint(c.Name)
		if isNew {
			board.OpenPool(id)
		}
		s.pools = append(s.pools, pooled{id, c, before.network(c)})
		return err
	}
	for _, c := range s.config.Pools {
		if err := add(c); err != nil {
			return err
		}
	}
	for _, f := range s.fronts {
		for _, name := range poolsOf(f.config) {
			if _, there := s.pool(name); there {
				continue
			}
			if p, was := before.pool(name); was {
				if err := add(p.config); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// keepAddresses takes over from before what only the pools of leaving fronts still need:
// those are not looked up any more.
func (s *state) keepAddresses(before *state) {
	for _, p := range s.pools {
		for _, b := range p.config.Backends {
			if _, there := s.addresses[b.Address]; !there && len(before.addresses[b.Address]) > 0 {
				s.addresses[b.Address] = before.addresses[b.Address]
			}
		}
	}
}

// makePlan makes the Plan of s. The cells of what is new in it are opened.
func (s *state) makePlan(l *ledger, board *metrics.Board) error {
	s.plan = &proxy.Plan{Generation: s.generation, MaxSessions: s.config.Limits.MaxSessions}
	for _, seat := range s.seats {
		s.plan.Seats = append(s.plan.Seats, proxy.Seat{Number: seat.number, Phase: seat.phase()})
	}
	if err := s.numberRoutes(l, board); err != nil {
		return err
	}
	for _, f := range s.fronts {
		p, _ := s.pool(f.config.Pool) // config has checked that it is there
		s.plan.Listeners = append(s.plan.Listeners, s.planListener(f, p))
		s.plan.Own = append(s.plan.Own, f.listensOn()...)
	}
	for _, p := range s.pools {
		made, err := s.planPool(p, l, board)
		if err != nil {
			return err
		}
		s.plan.Pools = append(s.plan.Pools, made)
	}
	return nil
}

func (s *state) planListener(f *front, pool pooled) proxy.Listener {
	l := f.config
	return proxy.Listener{
		ID: f.id, Name: l.Name, Phase: f.phase(), Pool: pool.id, Relay: relays[l.Relay], MaxSessions: l.MaxSessions,
		WaitForBackend: l.WaitForBackend, MaxWaiting: l.MaxWaiting,
		FirstByteTimeout: l.FirstByteTimeout, IdleTimeout: l.IdleTimeout, HalfClosedTimeout: l.HalfClosedTimeout,
		MaxDuration: l.MaxDuration, MaxDurationJitter: l.MaxDurationJitter,
		ToBackend: toBackend(l, pool.config), Guard: planGuard(f), Paces: planPaces(l.Bandwidth),
		Preamble: s.planPreamble(l), Unix: f.isUnix(),
	}
}

// planPool has a target for each address that its backends have now.
func (s *state) planPool(p pooled, l *ledger, board *metrics.Board) (pool.Pool, error) {
	c := p.config
	made := pool.Pool{ID: p.id, Name: c.Name, Pick: policies[c.Pick], MaxLoad: c.MaxLoad, ConnectTimeout: c.ConnectTimeout, Retries: c.Retries, RetryBudget: c.RetryBudget, Sources: c.Source, SourcePorts: pool.Ports(c.SourcePorts), SendProxy: introduction(c), Ejection: ejection(c),
		Transparent: c.Transparent, Multipath: c.MPTCP, Netns: number(p.network),
		Queue: c.Queue, QueueTimeout: c.QueueTimeout,
		Early: pool.Early{Congestion: c.Congestion, TOS: c.TOS, Mark: c.Mark, Interface: c.Interface}}
	for _, b := range c.Backends {
		for _, at := range s.addresses[b.Address] {
			if !c.Reaches(at.addr) { // a connect from there would fail each time; see tellUnreached
				continue
			}
			weight := cmp.Or(at.weight, b.Weight)
			id, isNew, err := l.targets.mint(target{c.Name, b.Address, at.addr})
			if err != nil {
				return made, err
			}
			if isNew {
				board.OpenTarget(id)
				board.Weights()[id.Index()].Store(int64(weight) * pool.WeightScale) // no pickers look there yet
			}
			made.Targets = append(made.Targets, pool.Target{ID: id, Backend: b.Address, Addr: at.addr, Weight: weight, Backup: b.Backup || at.backup, MaxSessions: c.MaxSessionsOf(b)})
		}
	}
	return made, nil
}

func ejection(c config.Pool) pool.Ejection {
	e := c.Ejection
	return pool.Ejection{
		ConnectFailures: e.ConnectFailures, Early: e.Early, EarlyCloses: e.EarlyCloses, MaxShare: c.Share(),
		Time: e.Time, MaxTime: e.MaxTime, Jitter: e.Jitter,
	}
}

// limit writes down how many sessions each target may have. It holds for all acceptors from
// then on, whichever Plan they run.
func (s *state) limit(board *metrics.Board) {
	for i := range s.plan.Pools {
		p := &s.plan.Pools[i]
		for _, t := range p.Targets {
			board.Limits()[t.ID.Index()].Store(int64(metrics.NewLimit(t.MaxSessions, p.ID)))
		}
	}
}

// watched is what package health is given of the pools of the Plan.
func (s *state) watched() []health.Pool {
	all := make([]health.Pool, len(s.pools))
	for i, p := range s.pools {
		all[i] = health.Pool{ID: p.id, Config: p.config, Netns: p.network, Targets: s.plan.Pools[i].Targets}
	}
	return all
}

// dropMissing lets go of the numbers of what s no longer has.
func (s *state) dropMissing(l *ledger) {
	fronts, pools, targets, routes := map[metrics.ID]bool{}, map[metrics.ID]bool{}, map[metrics.ID]bool{}, map[metrics.ID]bool{}
	for _, id := range s.routes {
		routes[id] = true
	}
	for _, f := range s.plan.Listeners {
		fronts[f.ID] = true
	}
	for i := range s.plan.Pools {
		pools[s.plan.Pools[i].ID] = true
		for _, t := range s.plan.Pools[i].Targets {
			targets[t.ID] = true
		}
	}
	dropMissing(l.listeners, fronts, s.generation)
	dropMissing(l.pools, pools, s.generation)
	dropMissing(l.targets, targets, s.generation)
	dropMissing(l.routes, routes, s.generation)
}

func dropMissing[K comparable](m *ids[K], has map[metrics.ID]bool, generation uint64) {
	for name, id := range m.named {
		if !has[id] {
			m.drop(name, generation)
		}
	}
}

// orders are what the host is told: the Plan, and all descriptors.
func (s *state) orders() host.Orders {
	o := host.Orders{Plan: s.plan, Groups: map[metrics.ID]host.Group{}, Access: map[uint64]host.Access{}, Netns: s.networks(), DrainTimeout: s.config.Limits.DrainTimeout}
	for _, f := range s.fronts {
		o.Groups[f.id] = host.Group{Sockets: f.descriptors(), Rows: f.steered.rows, HandOff: f.choice.handOff}
		if f.admitted != nil {
			o.Access[f.admitted.number] = f.admitted.order()
		}
	}
	for _, seat := range s.seats {
		for len(o.Mail) <= seat.number {
			o.Mail = append(o.Mail, host.Mailbox{Receive: -1, Send: -1})
			o.Settings = append(o.Settings, proxy.Settings{})
		}
		o.Mail[seat.number], o.Settings[seat.number] = seat.mail, seat.settings
	}
	return o
}

var relays = map[string]proxy.Relay{
	config.RelayAuto: proxy.RelayAuto, config.RelaySplice: proxy.RelaySplice, config.RelayCopy: proxy.RelayCopy,
}

var policies = map[string]pool.Policy{
	config.PickRoundRobin: pool.RoundRobin, config.PickLeastSessions: pool.LeastSessions, config.PickSourceHash: pool.SourceHash,
	config.PickRandom2: pool.Random2, config.PickFirst: pool.First, config.PickFastest: pool.Fastest,
}
