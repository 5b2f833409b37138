package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
	"sluice/proxy/pool"
)

var (
	client = netip.MustParseAddr("10.0.0.7")
	one    = metrics.NewID(0, 1) // the listener, the pool, and the first target
)

// newView has a listener web with two acceptors, and a pool app with three backends a, b and c.
func newView(t *testing.T) *View {
	t.Helper()
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { board.Close() })
	v := &View{
		Plan: &proxy.Plan{
			Generation: 3, Seats: []proxy.Seat{{Number: 0}, {Number: 1}},
			Listeners: []proxy.Listener{{ID: one, Name: "web", Pool: one}},
			Pools:     []pool.Pool{{ID: one, Name: "app", Pick: pool.First, QueueTimeout: 2 * time.Second}},
		},
		Listeners: []Listener{{ID: one, Config: config.Listener{Name: "web", ProxyProtocol: config.ProxyOff}, Address: "10.0.0.1:80", Steering: Steering{Policy: "hash", Next: Unknown, Loads: []int64{4, 5}}}},
		Pools:     []Pool{{Config: config.Pool{Name: "app", Pick: "first"}, Queue: one}},
		Acceptors: []Acceptor{{0, Ready}, {1, Ready}},
		Health:    map[metrics.ID]metrics.Health{},
		Targets:   board, Service: board, Clock: int64(time.Hour),
		Ask: func(proxy.Ways) (map[int]proxy.Surveyed, []int) { t.Error("nobody should be asked"); return nil, nil },
	}
	board.OpenListener(one)
	board.OpenPool(one)
	p, c := &v.Plan.Pools[0], &v.Pools[0].Config
	for i, name := range []string{"a", "b", "c"} {
		id := metrics.NewID(uint32(i), 1)
		board.OpenTarget(id)
		board.Weights()[i].Store(pool.WeightScale)
		p.Targets = append(p.Targets, pool.Target{ID: id, Backend: name, Addr: at(i), Weight: 1})
		c.Backends = append(c.Backends, config.Backend{Address: name, Weight: 1})
		v.Health[id] = metrics.Health{State: metrics.TargetUp}
	}
	return v
}

func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80)
}

// pick has the pool pick in another way, and acceptors answer what they would pick.
func (v *View) pick(p pool.Policy, answers map[int]proxy.Surveyed, silent ...int) {
	v.Plan.Pools[0].Pick = p
	v.Ask = func(proxy.Ways) (map[int]proxy.Surveyed, []int) { return answers, silent }
}

func ways(indexes ...uint32) (s proxy.Surveyed) {
	for _, i := range indexes {
		s.Ways = append(s.Ways, metrics.NewID(i, 1))
	}
	return s
}

// explained is what v says of the client at its first listener.
func (v *View) explained(t *testing.T) admin.Entrance {
	t.Helper()
	x, err := Explain(admin.ExplainQuery{Client: client}, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x.Now[0]
}

// all changes what all targets have.
func (v *View) all(change func(i int, t *pool.Target)) {
	for i := range v.Plan.Pools[0].Targets {
		change(i, &v.Plan.Pools[0].Targets[i])
	}
}

func (v *View) full() {
	v.all(func(i int, t *pool.Target) {
		t.MaxSessions = 1
		v.Targets.Limits()[i].Store(int64(metrics.NewLimit(1, one)))
		v.Targets.Held()[i].Store(1)
	})
}

func (v *View) nobody() { v.all(func(i int, _ *pool.Target) { v.Targets.Weights()[i].Store(0) }) }

func (v *View) denies(prefix string) {
	v.Listeners[0].Config.Access = config.Access{Deny: []string{prefix}}
	v.Listeners[0].Access = access.New(nil, []netip.Prefix{netip.MustParsePrefix(prefix)}, false)
}

// spent is a rate that the next session is too early for.
func (v *View) spent(delay time.Duration) {
	g := &v.Plan.Listeners[0].Guard
	g.Rate, g.Delay = access.Rate{Every: time.Second, Burst: 1}, delay
	v.Service.Rates()[0].Store(v.Clock + int64(time.Second))
}

func TestOutcomes(t *testing.T) {
	turns := map[int]proxy.Surveyed{0: ways(1, 2), 1: ways(1, 2)}
	for name, c := range map[string]struct {
		change                func(v *View)
		outcome, reason, text string
	}{
		"exact":        {func(*View) {}, "backend", "", "goes to 10.1.0.0:80, whichever acceptor takes it"},
		"all agree":    {func(v *View) { v.pick(pool.RoundRobin, turns) }, "backend", "", "goes to 10.1.0.1:80, if nobody comes before it"},
		"all disagree": {func(v *View) { v.pick(pool.RoundRobin, map[int]proxy.Surveyed{0: ways(1), 1: ways(2)}) }, "backend", "", "goes to the backend whose turn it is at the acceptor that takes it"},
		"the next agrees": {func(v *View) {
			v.pick(pool.LeastSessions, map[int]proxy.Surveyed{0: ways(1), 1: ways(2)})
			v.Listeners[0].Steering.Next = 1
		}, "backend", "", "goes to acceptor 1 and from there to 10.1.0.2:80, if nobody comes before it"},
		"drawn":           {func(v *View) { v.pick(pool.Random2, nil); v.Ask = nil }, "backend", "", "goes to the better of two backends that are drawn at random, by weight"},
		"fastest":         {func(v *View) { v.pick(pool.Fastest, nil) }, "backend", "", "goes to the better of two backends that are drawn at random, by weight"},
		"turns of a file": {func(v *View) { v.pick(pool.RoundRobin, nil); v.Ask = nil }, "backend", "", "goes to one of the backends, as their turns come"},
		"delayed":         {func(v *View) { v.spent(10 * time.Second) }, "backend", "", "goes to 10.1.0.0:80, whichever acceptor takes it, after a delay of 1s for the rate"},

		"denied":        {func(v *View) { v.denies("10.0.0.0/8") }, "refused", "denied", "is refused as denied: 10.0.0.0/8 is the longest prefix that contains it"},
		"not allowed":   {func(v *View) { v.Listeners[0].Access = access.New(nil, nil, true) }, "refused", "denied", "is refused as denied: only those may connect that allow names"},
		"too early":     {func(v *View) { v.spent(0) }, "refused", "rate", "is refused as rate: it comes 1s too early"},
		"too many":      {func(v *View) { v.Plan.MaxSessions = 1; v.Service.Acceptor(1).Sessions.Store(1) }, "refused", "max_sessions", "is refused as max_sessions"},
		"too many here": {func(v *View) { v.Plan.Listeners[0].MaxSessions = 2; v.Service.Listener(0, one).Active.Store(2) }, "refused", "max_sessions", "is refused as max_sessions"},

		"full":       {func(v *View) { v.full() }, "no_backend", "queue_full", "ends as queue_full: all backends have max_sessions, and the pool's queue has no place"},
		"queued":     {func(v *View) { v.full(); v.Plan.Pools[0].Queue = 3; v.Service.Pool(1, one).Queued.Store(2) }, "queued", "", "waits in the queue of pool app behind 2 others, for 2s at most"},
		"queue full": {func(v *View) { v.full(); v.Plan.Pools[0].Queue = 2; v.Service.Pool(1, one).Queued.Store(2) }, "no_backend", "queue_full", "ends as queue_full: all backends have max_sessions, and the pool's queue has no place"},
		"behind others": {func(v *View) {
			v.full()
			v.Targets.Held()[0].Store(0)
			v.Plan.Pools[0].Queue = 3
			v.Service.PoolQueue(one).Join(0)
		}, "queued", "", "waits in the queue of pool app behind 0 others, for 2s at most"},
		"full by turns": {func(v *View) {
			v.full()
			v.pick(pool.RoundRobin, map[int]proxy.Surveyed{0: {Full: true}, 1: {Full: true}})
		}, "no_backend", "queue_full", "ends as queue_full: all backends have max_sessions, and the pool's queue has no place"},
		"nobody":          {func(v *View) { v.nobody() }, "no_backend", "no_backend", "ends as no_backend: pool app has none that takes new sessions"},
		"nobody by turns": {func(v *View) { v.nobody(); v.pick(pool.RoundRobin, nil) }, "no_backend", "no_backend", "ends as no_backend: pool app has none that takes new sessions"},
		"waits":           {func(v *View) { v.nobody(); v.Plan.Listeners[0].WaitForBackend = time.Minute }, "waits", "", "waits for a backend, for 1m0s at most: pool app has none that takes new sessions"},
	} {
		v := newView(t)
		c.change(v)
		e := v.explained(t)
		if e.Outcome != c.outcome || e.Reason != c.reason || e.Text != c.text {
			t.Errorf("%s: outcome %q, reason %q, text %q", name, e.Outcome, e.Reason, e.Text)
		}
		if admitted := c.reason != "denied"; e.Admitted != admitted {
			t.Errorf("%s: admitted %v", name, e.Admitted)
		}
	}
}

// What an acceptor says counts if it answered in time; what it says of another Plan's targets
// does not.
func TestTurns(t *testing.T) {
	v := newView(t)
	v.Acceptors = append(v.Acceptors, Acceptor{2, Ready}, Acceptor{3, hung})
	v.Listeners[0].Steering.Loads = make([]int64, 4)
	v.pick(pool.RoundRobin, map[int]proxy.Surveyed{0: ways(2, 9, 0), 1: ways(2, 0), 2: ways(1)}, 2, 3)
	asked := v.Ask
	v.Ask = func(w proxy.Ways) (map[int]proxy.Surveyed, []int) {
		if w.Pool != one || w.Client != client || w.Most != foreseenTries {
			t.Errorf("asked for %+v", w)
		}
		return asked(w)
	}
	e := v.explained(t)
	want := []string{"0 ready [10.1.0.2:80 10.1.0.0:80]", "1 ready [10.1.0.2:80 10.1.0.0:80]", "2 silent []", "3 hung []"}
	for i, a := range e.Steering.Acceptors {
		if got := fmt.Sprintf("%d %s %v", a.Number, a.State, a.Tries); got != want[i] {
			t.Errorf("acceptor %s, want %s", got, want[i])
		}
	}
	if e.Exact || !slices.Equal(e.Tries, []string{"10.1.0.2:80", "10.1.0.0:80"}) {
		t.Errorf("exact %v, tries %q", e.Exact, e.Tries)
	}
	if want := []string{"acceptor 2 did not say what it would pick", "acceptor 3 did not say what it would pick"}; !slices.Equal(e.Notes, want) {
		t.Errorf("notes %q", e.Notes)
	}
}

func TestNotes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *View)
		want   string // within the one note; "" = there is none
	}{
		"nothing":       {func(*View) {}, ""},
		"draining":      {func(v *View) { v.Draining = true }, "the service drains"},
		"nobody":        {func(v *View) { v.Acceptors = []Acceptor{{0, paused}, {1, leaving}} }, "no acceptor takes connections now"},
		"addresses":     {func(v *View) { v.Listeners[0].Config.Bind = "10.0.0.1:80 10.0.0.1:81" }, "the listener has 2 addresses; the acceptors are those of 10.0.0.1:80"},
		"PROXY":         {func(v *View) { v.Listeners[0].Config.ProxyProtocol = config.ProxyRequired }, "PROXY header"},
		"TLS":           {func(v *View) { v.Listeners[0].Config.Routes = []config.Route{{SNI: []string{"a"}}} }, "-sni NAME and -alpn PROTOCOL"},
		"by source":     {func(v *View) { v.Listeners[0].Config.Routes = []config.Route{{Source: []string{"::/0"}}} }, ""},
		"file":          {func(v *View) { v.pick(pool.RoundRobin, nil); v.Ask = nil }, "when the file is in force"},
		"file, exact":   {func(v *View) { v.Ask = nil }, ""},
		"without names": {func(v *View) { v.Pools[0].Config.Backends[1].Address = "db" }, "backend db has no address now"},
	} {
		v := newView(t)
		c.change(v)
		notes := v.explained(t).Notes
		if c.want == "" && len(notes) > 0 || c.want != "" && (len(notes) != 1 || !strings.Contains(notes[0], c.want)) {
			t.Errorf("%s: notes %q", name, notes)
		}
	}
}

func TestBackends(t *testing.T) {
	v := newView(t)
	p, c := &v.Plan.Pools[0], &v.Pools[0].Config
	p.Targets, c.Backends = nil, nil
	three := 3
	for i, b := range []struct {
		name   string
		health metrics.Health
		change func(i int, t *pool.Target)
		want   string
	}{
		{"up", metrics.Health{State: metrics.TargetUp}, nil, "up"},
		{"new", metrics.Health{}, nil, "up: new"},
		{"down", metrics.Health{State: metrics.TargetDown, Since: time.Now().Add(-3 * time.Second), Check: &metrics.Check{Error: "no"}}, nil, "down: checks say so since 3s ago: no"},
		{"unchecked", metrics.Health{State: metrics.TargetDown, Since: time.Now(), Check: &metrics.Check{}}, nil, "down: checks say so since 0s ago: none"},
		{"drained", metrics.Health{State: metrics.TargetDraining, Operator: &metrics.Operator{Want: "drain", Who: "root", Reason: "disk"}}, nil, "draining: drain by root: disk"},
		{"weighed", metrics.Health{State: metrics.TargetUp, Operator: &metrics.Operator{Want: "weight", Weight: &three, Who: "root"}}, nil, "up: weight by root"},
		{"failing", metrics.Health{State: metrics.TargetUp}, func(i int, _ *pool.Target) {
			v.Targets.Failing()[i].Swap(metrics.NewFailure(time.Hour+2*time.Second, 3, 0, metrics.ConnectRefused))
		}, "failing: ranked last: refused; probed in 2s"},
		{"due", metrics.Health{State: metrics.TargetUp}, func(i int, _ *pool.Target) {
			v.Targets.Failing()[i].Swap(metrics.NewFailure(time.Minute, 3, 0, metrics.ConnectTimeout))
		}, "failing: ranked last: timeout"},
		{"full", metrics.Health{State: metrics.TargetUp}, func(i int, t *pool.Target) { t.MaxSessions = 2; v.Targets.Held()[i].Store(2) }, "full: it has its 2 sessions"},
		{"warming", metrics.Health{State: metrics.TargetWarming}, nil, "warming: its share still grows"},
		{"backup", metrics.Health{State: metrics.TargetUp}, func(_ int, t *pool.Target) { t.Backup = true }, "up: used when no other may be, or all fail"},
	} {
		target := pool.Target{ID: metrics.NewID(uint32(i), 1), Backend: b.name, Addr: at(i), Weight: 1}
		v.Targets.OpenTarget(target.ID)
		v.Targets.Weights()[i].Store(pool.WeightScale / 2)
		if b.change != nil {
			b.change(i, &target)
		}
		p.Targets = append(p.Targets, target)
		v.Health[target.ID] = b.health
		x := &explaining{View: v, pool: p}
		got := x.backend(i)
		if text := strings.TrimSuffix(got.State+": "+got.Why, ": "); text != b.want {
			t.Errorf("%s: %q, want %q", b.name, text, b.want)
		}
		if got.Weight != .5 || got.Backup != target.Backup || got.Address != at(i).String() {
			t.Errorf("%s: %+v", b.name, got)
		}
	}
}

// Those that come first are shown first, and of many others not all.
func TestManyBackends(t *testing.T) {
	v := newView(t)
	v.pick(pool.RoundRobin, map[int]proxy.Surveyed{0: ways(2, 1), 1: ways(2, 1)})
	v.Pools[0].Config.Backends = nil
	p := &v.Plan.Pools[0]
	for i := len(p.Targets); i < admin.MaxExplainedBackends+5; i++ {
		p.Targets = append(p.Targets, pool.Target{ID: metrics.NewID(uint32(i), 1), Backend: "x", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 80), Weight: 1})
	}
	e := v.explained(t)
	if b := e.Backends; len(b) != admin.MaxExplainedBackends || e.More != 5 || b[0].Backend != "c" || b[1].Backend != "b" || b[2].Backend != "a" {
		t.Errorf("%d backends, %d more, %+v first", len(b), e.More, b[:3])
	}
}

func TestListeners(t *testing.T) {
	v := newView(t)
	add := func(name string) {
		id := metrics.NewID(uint32(len(v.Plan.Listeners)), 1)
		v.Plan.Listeners = append(v.Plan.Listeners, proxy.Listener{ID: id, Name: name, Pool: one})
		l := v.Listeners[0]
		l.ID, l.Config.Name, l.Address = id, name, "10.0.0.9:"+fmt.Sprint(len(v.Listeners))
		v.Listeners = append(v.Listeners, l)
	}
	add("web") // its second address
	for i := range admin.MaxExplained + 3 {
		add(fmt.Sprintf("l%d", i))
	}
	ask := func(q admin.ExplainQuery) (admin.Explanation, error) {
		q.Client = client
		return Explain(q, v, func() (*View, func(), error) { return nil, nil, errors.New("no file") })
	}
	x, err := ask(admin.ExplainQuery{})
	if err != nil || len(x.Now) != admin.MaxExplained || x.More != 4 || x.Now[0].Address != "10.0.0.1:80" || x.Now[1].Listener != "l0" || x.Generation != 3 || x.Client != client.String() {
		t.Errorf("%d told, %d more: %v", len(x.Now), x.More, err)
	}
	if x, err := ask(admin.ExplainQuery{Listener: "l22"}); err != nil || len(x.Now) != 1 || x.Now[0].Listener != "l22" || x.More != 0 {
		t.Errorf("%+v, %v", x.Now, err)
	}
	for want, q := range map[string]admin.ExplainQuery{
		`there is no listener "no"`: {Listener: "no"}, "no file": {Config: "/f"},
		`no client can ask for the name "a b" and offer []`: {SNI: "a b"},
	} {
		if _, err := ask(q); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	v := newView(t)
	v.Plan.MaxSessions, v.Plan.Listeners[0].MaxSessions = 9, 8
	v.Plan.Listeners[0].Guard.Source = access.Limit{IPv4: 32, IPv6: 64, Sessions: 7}
	v.Service.Acceptor(0).Sessions.Store(5)
	v.Service.Listener(1, one).Active.Store(3)
	want := []admin.ExplainedLimit{{Name: "limits.max_sessions", Has: 5, Most: 9}, {Name: "max_sessions", Has: 3, Most: 8}, {Name: "source_sessions", Has: 0, Most: 7}}
	if e := v.explained(t); !slices.Equal(e.Limits, want) {
		t.Errorf("%+v", e.Limits)
	}
}
