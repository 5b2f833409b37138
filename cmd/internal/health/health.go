// Package health says which targets may be picked, and with what weight.
//
//	Commit(pools, targets) ─────────────► targets ◄── results ── checks, started by the schedule
//	Order(drain, disable, weight N) ────►    │                   when they fall due; one that says
//	                                         │                   something is a goroutine meanwhile
//	              what checks say × what operators want × panic ◄── the ill ones
//	                                         ▼
//	                     weights of the board, where pickers look on each pick
//
// A Keeper belongs to the control plane and is all that writes weights. A target that goes
// down or comes back costs one store there, and no Plan.
//
// Reading order: health.go, state.go, panic.go, schedule.go, check.go, connect_linux.go, operator.go.
package health

import (
	"context"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"time"

	"sluice/cmd/internal/config"
	"sluice/listener/netns"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// Options is what New is given.
type Options struct {
	Log     *slog.Logger          // must not block
	Weights []metrics.Gauge       // of the board, by target index
	Weighed *metrics.Counter      // of the board: of their changes; may be nil
	Failing []metrics.Failing     // of the board: what acceptors know of targets; nil = nothing, as the two below
	Strikes []metrics.Strikes     // of the board, by target index
	Panics  []metrics.Gauge       // of the board, by pool index
	Cut     func(pool string)     // called when a pool has other Cuts; must not block, nor call the Keeper; may be nil
	Run     func(*exec.Cmd) error // starts a command and waits for it; nil = cmd.Run
	AtATime int                   // most checks at a time, each with a descriptor; 0 = maxBusy, which bounds it
}

// Pool is a pool of a Plan, with its configuration.
type Pool struct {
	ID      metrics.ID
	Config  config.Pool
	Netns   *netns.Namespace // where checks come from
	Targets []pool.Target
}

// Keeper looks after the targets of all pools. Its methods may be called by any goroutine,
// and none waits for a check.
type Keeper struct {
	o     Options
	probe func(ctx context.Context, c *check, t pool.Target) outcome // a test may put its own there
	wake  chan struct{}                                              // the schedule looks again
	ctx   context.Context
	stop  context.CancelFunc
	ended sync.WaitGroup // the schedule and all checks
	turns chan struct{}  // one in it for each command that runs
	conns *connects      // checks that only connect; a test may have it nil, and all probed

	mu      sync.Mutex // guards what follows, and the weights
	pools   map[string]*watched
	targets map[metrics.ID]*target
	orders  map[backendKey]metrics.Operator
	due     schedule
	busy    int              // checks under way
	warming map[*target]bool // their weights grow
	warmAt  time.Time        // when they grow next; zero = none does
	illAt   time.Time        // when ill ones are looked for; zero = no pool may be in panic
}

// watched is a pool.
type watched struct {
	id      metrics.ID
	config  config.Pool
	check   *check // nil = none
	targets []*target
	primary int  // targets that are no backups and that no operator took out
	healthy int  // targets that no operator took out, that are up and not ill
	panic   bool // too few are healthy

	left map[string]*failures // of checks of targets that have left, by backend
}

// target is one address of a backend.
type target struct {
	pool.Target
	in      *watched
	verdict verdict
	found   metrics.Check // by the last check

	due      time.Time // of the next check
	place    int       // in the schedule; -1 = not there
	checking bool      // a check of it is under way

	state   metrics.TargetState
	since   time.Time // of the state
	warm    time.Time // since when it warms up; zero = it does not
	primary bool      // as counted in its pool
	healthy bool      // the same
	weight  int64     // in force
}

// New makes a Keeper that has no targets. Start begins its checks, Close ends them.
func New(o Options) *Keeper {
	k := &Keeper{
		o: o, wake: make(chan struct{}, 1), turns: make(chan struct{}, maxCommands),
		probe: func(ctx context.Context, c *check, t pool.Target) outcome { return c.probe(ctx, t) },

		pools: map[string]*watched{}, targets: map[metrics.ID]*target{}, orders: map[backendKey]metrics.Operator{}, warming: map[*target]bool{},
	}
	if o.Run == nil {
		k.o.Run = (*exec.Cmd).Run
	}
	if o.AtATime <= 0 || o.AtATime > maxBusy {
		k.o.AtATime = maxBusy
	}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.conns = newConnects(k.ctx, &k.ended)
	return k
}

// Start begins to check.
func (k *Keeper) Start() { k.ended.Go(k.run) }

// Close ends all checks and waits for them. After it no weight is written.
func (k *Keeper) Close() {
	k.stop()
	k.ended.Wait()
}

// Commit is told the pools of the Plan that is about to be in force, and puts the weights
// of their targets on the board. A target that stays keeps its state, what operators said of a
// backend holds for as long as it is configured.
func (k *Keeper) Commit(pools []Pool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	before, known := k.pools, k.targets
	k.pools, k.targets = make(map[string]*watched, len(pools)), make(map[metrics.ID]*target, len(known))
	for _, p := range pools {
		k.commit(p, before[p.Config.Name], known, now)
	}
	for id, t := range known {
		if k.targets[id] == nil {
			k.due.remove(t)
			delete(k.warming, t)
			k.keepFailures(t)
			t.in = nil // a check under way finds nothing to tell
		}
	}
	k.dropLeft()
	k.dropOrders()
	k.lookForIllFrom(now)
	k.look()
}

// commit takes over one pool, which was nil before if it is new.
func (k *Keeper) commit(p Pool, was *watched, known map[metrics.ID]*target, now time.Time) {
	w := &watched{id: p.ID, config: p.Config, check: newCheck(p.Config, p.Netns, k.o.Run)}
	again := true // all are checked soon, not when it is their turn
	if was != nil {
		w.panic, w.left = was.panic, was.left
		if was.check.same(w.check) {
			w.check, again = was.check, false
		}
	}
	var soon []*target
	for _, pt := range p.Targets {
		t, stays := known[pt.ID]
		if !stays {
			t = &target{place: -1, since: now, verdict: verdict{up: w.check == nil || p.Config.Health.Start == config.StartUp, since: now}}
			if was != nil && len(was.targets) > 0 {
				t.warm = now // it joins others
			}
		}
		if w.check == nil {
			t.verdict, t.found = verdict{up: true, since: t.verdict.since}, metrics.Check{}
		}
		t.Target, t.in = pt, w
		t.primary, t.healthy = false, false // they are counted anew
		w.targets, k.targets[pt.ID] = append(w.targets, t), t
		if w.check != nil && (again || !stays) {
			soon = append(soon, t)
		}
		if w.check == nil {
			k.due.remove(t)
		}
	}
	k.pools[p.Config.Name] = w
	for _, t := range w.targets {
		k.count(t)
	}
	if !k.setPanic(w) {
		k.tellPanic(w) // of targets that are new in it
	}
	for _, t := range w.targets {
		k.settle(t, now)
	}
	k.spread(soon, now)
}

// PoolHealth is what is shown of a pool.
type PoolHealth struct {
	Panic bool                // too few of its targets are healthy
	Left  map[string]failures // of checks of targets that have left, by backend
}

// Snapshot is what is shown of all targets, and of all pools by name. Both are of the same
// moment: failures are in one of them.
func (k *Keeper) Snapshot() (targets map[metrics.ID]metrics.Health, pools map[string]PoolHealth) {
	k.mu.Lock()
	defer k.mu.Unlock()
	targets, pools = make(map[metrics.ID]metrics.Health, len(k.targets)), make(map[string]PoolHealth, len(k.pools))
	for name, w := range k.pools {
		p := PoolHealth{Panic: w.panic, Left: make(map[string]failures, len(w.left))}
		for backend, n := range w.left {
			p.Left[backend] = *n
		}
		pools[name] = p
		for _, t := range w.targets {
			targets[t.ID] = k.show(t)
		}
	}
	return targets, pools
}

func (k *Keeper) show(t *target) metrics.Health {
	h := metrics.Health{State: t.state, Since: t.since, Weight: float64(t.weight) / pool.WeightScale}
	if o, is := k.orders[t.key()]; is {
		h.Operator = &o
	}
	if t.in.check != nil {
		c := t.found
		c.Up, c.Since, c.Failures = t.verdict.up, t.verdict.since, metrics.CheckFailures(&t.verdict.failures)
		h.Check = &c
	}
	return h
}

// backendKey names a backend over all Plans.
type backendKey struct{ pool, backend string }

func (t *target) key() backendKey { return backendKey{t.in.config.Name, t.Backend} }

// look has the schedule look again.
func (k *Keeper) look() {
	select {
	case k.wake <- struct{}{}:
	default: // it does so already
	}
}

// dropOrders forgets what was said of backends that are configured no more.
func (k *Keeper) dropOrders() {
	for key := range k.orders {
		w := k.pools[key.pool]
		if w == nil || !slices.ContainsFunc(w.config.Backends, func(b config.Backend) bool { return b.Address == key.backend }) {
			delete(k.orders, key)
		}
	}
}
