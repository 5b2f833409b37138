package explain

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

func TestChanges(t *testing.T) {
	entrance := func(change func(e *admin.Entrance)) admin.Entrance {
		e := admin.Entrance{
			Listener: "web", Address: ":80", Outcome: admin.OutcomeBackend, Text: "goes to a", Pool: "app", Pick: "first", Exact: true, Tries: []string{"a", "b", "c"},
			Steering: admin.ExplainedSteering{Policy: "least", Acceptors: make([]admin.ExplainedAcceptor, 2)},
		}
		change(&e)
		return e
	}
	was := entrance(func(*admin.Entrance) {})
	for name, c := range map[string]struct {
		change func(e *admin.Entrance)
		want   []string
	}{
		"nothing": {func(*admin.Entrance) {}, []string{}},
		"all": {func(e *admin.Entrance) {
			e.Address, e.Route, e.Pool, e.Pick, e.Tries = ":81", "vip", "other", "source_hash", []string{"b", "a"}
			e.Steering = admin.ExplainedSteering{Policy: "hash", Acceptors: make([]admin.ExplainedAcceptor, 3)}
		}, []string{
			"web: address :80 -> :81", "web: route none -> vip", "web: pool app -> other", "web: pick first -> source_hash",
			"web: backend a -> b", "web: then b, c -> a", "web: steering least -> hash", "web: acceptors 2 -> 3",
		}},
		"refused":       {func(e *admin.Entrance) { e.Outcome, e.Reason = admin.OutcomeRefused, "denied" }, []string{"web: outcome backend -> refused denied"}},
		"who knows":     {func(e *admin.Entrance) { e.Exact, e.Tries = false, []string{"z"} }, []string{}},
		"the last left": {func(e *admin.Entrance) { e.Tries = e.Tries[:1] }, []string{"web: then b, c -> none"}},
	} {
		if got := changes([]admin.Entrance{was}, []admin.Entrance{entrance(c.change)}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	other := entrance(func(e *admin.Entrance) { e.Listener = "db" })
	if got, want := changes([]admin.Entrance{was}, []admin.Entrance{other}), []string{"web: the listener is no more", "db: the listener is new; the client goes to a"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A file is asked about after what is in force, and given back at the end.
func TestExplainOfFile(t *testing.T) {
	now, then, done := newView(t), newView(t), 0
	then.Listeners[0].Config.Name = "db"
	ask := func(listener string) (admin.Explanation, error) {
		return Explain(admin.ExplainQuery{Client: client, Listener: listener, Config: "/f"}, now, func() (*View, func(), error) { return then, func() { done++ }, nil })
	}
	x, err := ask("")
	if err != nil || x.Config.Path != "/f" || len(x.Config.Then) != 1 || len(x.Config.Changes) != 2 {
		t.Errorf("%+v, %v", x.Config, err)
	}
	if x, err := ask("db"); err != nil || len(x.Now) != 0 || len(x.Config.Then) != 1 || len(x.Config.Changes) != 1 {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := ask("no"); err == nil || err.Error() != `there is no listener "no"` {
		t.Error(err)
	}
	if done != 3 {
		t.Errorf("it was given back %d times", done)
	}
	fault := errors.New("a fault")
	if _, err := Explain(admin.ExplainQuery{Client: client, Listener: "no", Config: "/f"}, now, func() (*View, func(), error) { return nil, nil, fault }); !errors.Is(err, fault) {
		t.Error(err)
	}
}

// Targets of a file have what those with their names have now, under other numbers.
func TestInherit(t *testing.T) {
	now := newView(t)
	weight := 5
	now.Targets.Held()[0].Store(7)
	now.Targets.Failing()[0].Swap(metrics.NewFailure(time.Hour, 1, 0, metrics.ConnectRefused))
	now.Health[metrics.NewID(1, 1)] = metrics.Health{State: metrics.TargetDown}
	now.Targets.Weights()[1].Store(0)
	now.Health[metrics.NewID(2, 1)] = metrics.Health{State: metrics.TargetUp, Operator: &metrics.Operator{Want: "weight", Weight: &weight}}
	now.Targets.Weights()[2].Store(5 * pool.WeightScale)

	then := newView(t)
	p := &then.Plan.Pools[0]
	slices.Reverse(p.Targets) // c has the number of a
	for i := range p.Targets {
		p.Targets[i].ID, p.Targets[i].Weight = metrics.NewID(uint32(i), 1), 2
		then.Targets.Weights()[i].Store(2 * pool.WeightScale)
	}
	p.Targets = append(p.Targets, pool.Target{ID: metrics.NewID(3, 1), Backend: "new", Addr: at(3), Weight: 1})
	then.Targets.OpenTarget(metrics.NewID(3, 1))
	then.Pools[0].Queue = 0
	for start, fresh := range map[string]int64{config.StartUp: pool.WeightScale, config.StartDown: 0} {
		then.Pools[0].Config.Health = config.Health{Check: config.CheckTCP, Start: start}
		then.Targets.Weights()[3].Store(pool.WeightScale)
		then.Inherit(now)
		for i, want := range []int64{5 * pool.WeightScale, 0, 2 * pool.WeightScale, fresh} { // c, b, a, new
			if got := then.Targets.Weights()[i].Load(); got != want {
				t.Errorf("start = %q: target %d has weight %d, want %d", start, i, got, want)
			}
		}
	}
	if then.Targets.Held()[2].Load() != 7 || then.Targets.Failing()[2].Load() == 0 || then.Targets.Held()[0].Load() != 0 {
		t.Error("a does not have what it had")
	}
	if then.Health[metrics.NewID(1, 1)].State != metrics.TargetDown || len(then.Health) != 3 {
		t.Errorf("%+v", then.Health)
	}
	if then.Pools[0].Queue != one {
		t.Errorf("the queue is that of %v", then.Pools[0].Queue)
	}
}
