package control

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

func newBoard(t *testing.T) *metrics.Board {
	t.Helper()
	b, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// world is what a state is made in.
type world struct {
	*ledger
	board *metrics.Board
	lives uint64
}

func newWorld(t *testing.T) *world { return &world{ledger: newLedger(), board: newBoard(t)} }

// make makes the state of a configuration that follows another. Fronts of listeners that
// are gone leave.
func (w *world) make(t *testing.T, c config.Config, addrs addresses, before *state) *state {
	t.Helper()
	s := &state{config: c, addresses: addrs, seats: seatsOf(0, 1), generation: before.generation + 1}
	for _, l := range c.Listeners {
		f := before.front(l.Name)
		if f == nil {
			w.lives++
			id, _, err := w.listeners.mint(frontName{l.Name, w.lives})
			if err != nil {
				t.Fatal(err)
			}
			f = &front{id: id}
		}
		copied := *f
		copied.config = l
		s.fronts = append(s.fronts, &copied)
	}
	for _, f := range before.fronts {
		if s.find(f.id) == nil {
			copied := *f
			copied.leaving = newDeparture(time.Now(), time.Time{})
			s.fronts = append(s.fronts, &copied)
		}
	}
	if err := s.gatherPools(before, w.ledger, w.board); err != nil {
		t.Fatal(err)
	}
	if err := s.makePlan(w.ledger, w.board); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlanSaysWhatTheConfigSays(t *testing.T) {
	addrs := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")}
	c := config.Config{
		Limits: config.Limits{MaxSessions: 500},
		Listeners: []config.Listener{{
			Name: "web", Bind: ":80", Pool: "apps", Relay: config.RelayCopy, MaxSessions: 50,
			WaitForBackend: 6 * time.Second, MaxWaiting: 7,
			FirstByteTimeout: 1 * time.Second, IdleTimeout: 2 * time.Second, HalfClosedTimeout: 3 * time.Second,
			MaxDuration: 4 * time.Second, MaxDurationJitter: 0.5,
		}},
		Pools: []config.Pool{{
			Name: "apps", Pick: config.PickLeastSessions, ConnectTimeout: 5 * time.Second, Retries: 3, Source: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, SourcePorts: config.PortRange{Low: 2000, High: 3000},
			Backends: []config.Backend{{Address: "app:80", Weight: 4}, {Address: "lost:80", Weight: 1, Backup: true}},
		}},
	}
	first := metrics.NewID(0, 1)
	want := &proxy.Plan{
		Generation: 3, MaxSessions: 500, Seats: []proxy.Seat{{Number: 0}, {Number: 1}},
		Listeners: []proxy.Listener{{
			ID: first, Name: "web", Pool: first, Relay: proxy.RelayCopy, MaxSessions: 50,
			WaitForBackend: 6 * time.Second, MaxWaiting: 7,
			FirstByteTimeout: 1 * time.Second, IdleTimeout: 2 * time.Second, HalfClosedTimeout: 3 * time.Second,
			MaxDuration: 4 * time.Second, MaxDurationJitter: 0.5,
		}},
		Pools: []pool.Pool{{
			ID: first, Name: "apps", Pick: pool.LeastSessions, ConnectTimeout: 5 * time.Second, Retries: 3, Sources: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, SourcePorts: pool.Ports{Low: 2000, High: 3000},
			Targets: []pool.Target{ // the other name did not resolve: it has none
				{ID: first, Backend: "app:80", Addr: addrs[0], Weight: 4},
				{ID: metrics.NewID(1, 1), Backend: "app:80", Addr: addrs[1], Weight: 4},
			},
		}},
	}
	w := newWorld(t)
	if got := w.make(t, c, addresses{"app:80": {{addr: addrs[0]}, {addr: addrs[1]}}}, &state{generation: 2}).plan; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for i, want := range []int64{4 * pool.WeightScale, 4 * pool.WeightScale, 0} {
		if got := w.board.Weights()[i].Load(); got != want {
			t.Errorf("target %d has weight %d in force, want %d", i, got, want)
		}
	}
}

// Every word that a configuration may hold has its number: an unknown one would
// silently become the first.
func TestPlanKnowsEveryWord(t *testing.T) {
	w := newWorld(t)
	for word, want := range map[string]proxy.Relay{"auto": proxy.RelayAuto, "splice": proxy.RelaySplice, "copy": proxy.RelayCopy} {
		s := w.make(t, config.Config{Listeners: []config.Listener{{Name: "a", Relay: word}}}, nil, &state{})
		if got := s.plan.Listeners[0].Relay; got != want {
			t.Errorf("relay %q: %v, want %v", word, got, want)
		}
	}
	for word, want := range map[string]pool.Policy{"round_robin": pool.RoundRobin, "least_sessions": pool.LeastSessions, "source_hash": pool.SourceHash,
		"random2": pool.Random2, "first": pool.First, "fastest": pool.Fastest} {
		s := w.make(t, config.Config{Pools: []config.Pool{{Name: "p", Pick: word}}}, nil, &state{})
		if got := s.plan.Pools[0].Pick; got != want {
			t.Errorf("pick %q: %v, want %v", word, got, want)
		}
	}
}

func oneBackend(pool, address string, weight int) config.Pool {
	return config.Pool{Name: pool, Pick: config.PickRoundRobin, Backends: []config.Backend{{Address: address, Weight: weight}}}
}

func TestThingsKeepTheirNumbers(t *testing.T) {
	w := newWorld(t)
	addrs := addresses{"a:1": {{addr: netip.MustParseAddrPort("10.0.0.1:1")}}, "b:1": {{addr: netip.MustParseAddrPort("10.0.0.2:1")}}}
	web := config.Listener{Name: "web", Pool: "p"}
	one := w.make(t, config.Config{Listeners: []config.Listener{web}, Pools: []config.Pool{oneBackend("p", "a:1", 1)}}, addrs, &state{})
	p := oneBackend("p", "b:1", 1)
	p.Backends = append(p.Backends, config.Backend{Address: "a:1", Weight: 9})
	two := w.make(t, config.Config{Listeners: []config.Listener{{Name: "api", Pool: "q"}, web}, Pools: []config.Pool{oneBackend("q", "a:1", 1), p}}, addrs, one)
	if was, is := one.plan.Listeners[0].ID, two.plan.Listeners[1].ID; was != is {
		t.Errorf("the listener was %v and is %v", was, is)
	}
	if was, is := one.plan.Pools[0].ID, two.plan.Pools[1].ID; was != is {
		t.Errorf("the pool was %v and is %v", was, is)
	}
	if was, is := one.plan.Pools[0].Targets[0].ID, two.plan.Pools[1].Targets[1].ID; was != is {
		t.Errorf("the target was %v and is %v", was, is)
	}
	seen := map[metrics.ID]bool{}
	for _, p := range two.plan.Pools {
		for _, target := range p.Targets {
			if seen[target.ID] { // the same address in two pools is two targets
				t.Errorf("two targets are %v", target.ID)
			}
			seen[target.ID] = true
		}
	}
	// The weight in force changes with the commit, not with a Plan that may be refused.
	if got := w.board.Weights()[one.plan.Pools[0].Targets[0].ID.Index()].Load(); got != pool.WeightScale {
		t.Errorf("the weight in force is %d before the commit, want %d", got, pool.WeightScale)
	}
}

// A pool that is taken out of the file stays, as it was, while a listener that leaves
// needs it; one that is changed is changed for that one, too.
func TestPoolsStayForListenersThatLeave(t *testing.T) {
	w := newWorld(t)
	addrs := addresses{"a:1": {{addr: netip.MustParseAddrPort("10.0.0.1:1")}}}
	one := w.make(t, config.Config{
		Listeners: []config.Listener{{Name: "web", Pool: "p"}, {Name: "api", Pool: "q"}},
		Pools:     []config.Pool{oneBackend("p", "a:1", 2), oneBackend("q", "a:1", 1)},
	}, addrs, &state{})
	two := w.make(t, config.Config{
		Listeners: []config.Listener{{Name: "api", Pool: "q"}}, Pools: []config.Pool{oneBackend("q", "a:1", 1)},
	}, addrs, one)
	if len(two.plan.Pools) != 2 || !reflect.DeepEqual(two.plan.Pools[1], one.plan.Pools[0]) {
		t.Errorf("pools %+v, want the old one behind the other", two.plan.Pools)
	}
	if l := two.plan.Listeners[1]; l.Name != "web" || l.Phase != proxy.PhaseLeaving || l.Pool != one.plan.Pools[0].ID {
		t.Errorf("the listener that leaves is %+v", l)
	}
	two.dropMissing(w.ledger)
	if n := len(w.pools.dropped) + len(w.targets.dropped) + len(w.listeners.dropped); n != 0 {
		t.Errorf("%d numbers were let go of", n)
	}
	// Once more without the listener, and with it all that it needed.
	three := w.make(t, two.config, addrs, &state{generation: two.generation, fronts: two.fronts[:1], pools: two.pools})
	three.dropMissing(w.ledger)
	if len(three.plan.Pools) != 1 || len(w.pools.dropped) != 1 || len(w.targets.dropped) != 1 || len(w.listeners.dropped) != 1 {
		t.Errorf("pools %+v; let go of %v, %v, %v", three.plan.Pools, w.pools.dropped, w.targets.dropped, w.listeners.dropped)
	}
}

func TestPoolIsChangedForListenersThatLeave(t *testing.T) {
	w := newWorld(t)
	addrs := addresses{"a:1": {{addr: netip.MustParseAddrPort("10.0.0.1:1")}}, "b:1": {{addr: netip.MustParseAddrPort("10.0.0.2:1")}}}
	one := w.make(t, config.Config{
		Listeners: []config.Listener{{Name: "web", Pool: "p"}}, Pools: []config.Pool{oneBackend("p", "a:1", 2)},
	}, addrs, &state{})
	two := w.make(t, config.Config{Pools: []config.Pool{oneBackend("p", "b:1", 2)}}, addrs, one)
	if len(two.plan.Pools) != 1 || two.plan.Pools[0].Targets[0].Backend != "b:1" || two.plan.Listeners[0].Pool != two.plan.Pools[0].ID {
		t.Errorf("plan %+v", two.plan)
	}
}

// More backends than the board has places for are an error, not a panic.
func TestTooManyTargets(t *testing.T) {
	w := newWorld(t)
	w.targets.limit = 3
	addrs := addresses{}
	var p config.Pool
	for i := range 4 {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
		addrs[address.String()] = []located{{addr: address}}
		p.Backends = append(p.Backends, config.Backend{Address: address.String(), Weight: 1})
	}
	s := &state{config: config.Config{Pools: []config.Pool{p}}, addresses: addrs}
	if err := s.gatherPools(&state{}, w.ledger, w.board); err != nil {
		t.Fatal(err)
	}
	want := "there can be 3 backend addresses at a time, those that sessions still hold included"
	if err := s.makePlan(w.ledger, w.board); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}
