package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
	"sluice/proxy/pool"
)

// To explain where a client would go, the control plane asks what acceptors ask, in their
// order, of the same code:
//
//	Plan.Foresee (access, limits, route) ─► pool.Picker.Foresee ─► what it means, in words
//	                                          │ source_hash, first: a picker of our own, which
//	                                          │                     picks as all acceptors do
//	                                          └ turns: each acceptor says what it would pick
//
// With a file, the same is asked of the Plan that a reload would make of it (explain_file.go).

// prospect is what an explanation looks at: what is in force, or what would be.
type prospect struct {
	*state
	board    *metrics.Board // of its targets; listeners and acceptors are always those of the service
	health   map[metrics.ID]metrics.Health
	sets     map[metrics.ID]*access.Set                                               // by listener
	steering func(*front) admin.ExplainedSteering                                     // what gives its connections to acceptors
	perSeat  func(pool metrics.ID, client netip.Addr) (map[int]proxy.Surveyed, []int) // what acceptors would pick; nil = that is not known
	inForce  func(pool string) (metrics.ID, bool)                                     // the number that a pool has in force
}

// foreseenTries is how many targets are told: with each that refuses, the next one is less likely.
const foreseenTries = 4

// explain says where a client would go. It may be called by any goroutine.
func (s *service) explain(ctx context.Context, q admin.ExplainQuery) (x admin.Explanation, err error) {
	v, ok := proxy.NewVisitor(q.Client, q.SNI, q.ALPN)
	if !ok {
		return x, fmt.Errorf("no client can ask for the name %q and offer %q", q.SNI, q.ALPN)
	}
	now := s.prospect()
	x = admin.Explanation{Client: q.Client.String(), Generation: now.generation}
	if x.Now, x.More, err = s.entrances(now, v, q.Listener); err != nil && q.Config == "" {
		return x, err
	}
	if q.Config == "" {
		return x, nil
	}
	then, done, fault := s.prospectOf(ctx, q.Config)
	if fault != nil {
		return x, fault
	}
	defer done()
	x.Config = &admin.ExplainedChange{Path: q.Config}
	var none error
	if x.Config.Then, _, none = s.entrances(then, v, q.Listener); none != nil && err != nil {
		return x, err // the listener is in neither
	}
	x.Config.Changes = changesFor(x.Now, x.Config.Then)
	return x, nil
}

// prospect is what is in force.
func (s *service) prospect() *prospect {
	inForce, _ := s.shown()
	p := &prospect{state: inForce, board: s.board, sets: map[metrics.ID]*access.Set{}}
	p.health, _ = s.health.Snapshot()
	for _, f := range inForce.fronts {
		if f.admitted != nil {
			p.sets[f.id] = f.admitted.set
		}
	}
	p.steering = func(f *front) admin.ExplainedSteering { return s.steeringAt(inForce, f) }
	p.perSeat = func(id metrics.ID, client netip.Addr) (map[int]proxy.Surveyed, []int) {
		return s.movement.Ask(proxy.Survey{Ways: &proxy.Ways{Pool: id, Client: client, Most: foreseenTries}})
	}
	p.inForce = inForce.idOfPool
	return p
}

func (s *state) idOfPool(name string) (metrics.ID, bool) {
	p, there := s.pool(name)
	return p.id, there
}

// entrances are those of a listener, or of all.
func (s *service) entrances(p *prospect, v proxy.Visitor, name string) (all []admin.Entrance, more int, err error) {
	all = []admin.Entrance{}
	told := map[string]bool{}
	for _, f := range p.fronts {
		if f.leaving != nil || told[f.config.Name] || name != "" && f.config.Name != name {
			continue
		}
		told[f.config.Name] = true
		if len(all) == admin.MaxExplained {
			more++
			continue
		}
		all = append(all, s.entrance(p, f, v))
	}
	if len(all) == 0 && name != "" {
		return all, 0, fmt.Errorf("there is no listener %q", name)
	}
	return all, more, nil
}

// entrance asks one listener.
func (s *service) entrance(p *prospect, f *front, v proxy.Visitor) admin.Entrance {
	l := &p.plan.Listeners[slices.IndexFunc(p.plan.Listeners, func(l proxy.Listener) bool { return l.ID == f.id })]
	seen := p.plan.Foresee(s.board, l, p.sets[f.id], v, monotonic())
	e := admin.Entrance{
		Listener: f.config.Name, Address: f.address(), Admitted: !seen.Turned || seen.Reject != metrics.RejectDenied,
		Wait: seen.Wait.Seconds(), Route: seen.Route, Steering: p.steering(f), Limits: limitsOf(p.plan, l, seen), Tries: []string{}, Notes: []string{},
	}
	if f.config.Access.Limited() {
		e.Access = f.config.Access.String()
	}
	if seen.Prefix.IsValid() {
		e.Prefix = seen.Prefix.String()
	}
	i := slices.IndexFunc(p.plan.Pools, func(q pool.Pool) bool { return q.ID == seen.Pool })
	x := &explaining{s: s, prospect: p, pool: &p.plan.Pools[i], client: v.Client, Entrance: &e}
	e.Pool, e.Pick = x.pool.Name, p.pools[i].config.Pick
	x.tries()
	x.backends(p.pools[i].config)
	x.outcome(l, seen)
	x.note(f, v)
	return e
}

// address is where a front listens, or would.
func (f *front) address() string {
	if f.group == nil {
		return f.bind.Address
	}
	return f.group.Address()
}

func limitsOf(p *proxy.Plan, l *proxy.Listener, seen proxy.Foreseen) []admin.ExplainedLimit {
	all := []admin.ExplainedLimit{}
	for _, one := range []admin.ExplainedLimit{
		{Name: "limits.max_sessions", Has: seen.AllSessions, Most: int64(p.MaxSessions)},
		{Name: "max_sessions", Has: seen.Sessions, Most: int64(l.MaxSessions)},
		{Name: "source_sessions", Has: int64(seen.SourceSessions), Most: int64(l.Guard.Source.Sessions)},
	} {
		if one.Most > 0 {
			all = append(all, one)
		}
	}
	return all
}

// explaining is one Entrance under way.
type explaining struct {
	*prospect
	*admin.Entrance
	s      *service
	pool   *pool.Pool
	client netip.Addr
	full   bool // behind Tries come only targets that have max_sessions
	nobody bool // no target may be picked
	silent []int
}

func (x *explaining) address(i int) string { return pool.AddressText(x.pool.Targets[i].Addr) }

// tries finds out which targets the client would be given.
func (x *explaining) tries() {
	if x.pool.Pick == pool.SourceHash || x.pool.Pick == pool.First {
		now := monotonic()
		ways, full := pool.NewPicker(x.plan.Prepared(x.pool.ID), 0, pool.StateOf(x.board, &now)).Foresee(x.client, foreseenTries)
		for _, i := range ways {
			x.Tries = append(x.Tries, x.address(i))
		}
		x.Exact, x.full, x.nobody = true, full, len(ways) == 0 && !full
		return
	}
	x.nobody = !slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool { return x.board.Weights()[t.ID.Index()].Load() != 0 })
	if x.perSeat == nil || x.pool.Pick == pool.Random2 || x.pool.Pick == pool.Fastest {
		return
	}
	answers, silent := x.perSeat(x.pool.ID, x.client)
	x.silent = silent
	byID := map[metrics.ID]int{}
	for i, t := range x.pool.Targets {
		byID[t.ID] = i
	}
	for i := range x.Steering.Acceptors {
		a := &x.Steering.Acceptors[i]
		answer, came := answers[a.Number]
		if !came || slices.Contains(silent, a.Number) {
			if a.State == stateReady {
				a.State = stateSilent
			}
			continue
		}
		for _, id := range answer.Ways {
			if i, there := byID[id]; there { // else it runs another Plan
				a.Tries = append(a.Tries, x.address(i))
			}
		}
		x.full = x.full || answer.Full && len(answer.Ways) == 0
	}
	x.agree()
}

// agree notes what all acceptors that may take the client would give it.
func (x *explaining) agree() {
	var all [][]string
	for _, a := range x.Steering.Acceptors {
		if a.State == stateReady && (x.Steering.Next == nil || *x.Steering.Next == a.Number) {
			all = append(all, a.Tries)
		}
	}
	if len(all) == 0 || len(all[0]) == 0 {
		return
	}
	for _, tries := range all {
		if !slices.Equal(tries, all[0]) {
			return
		}
	}
	x.Tries = slices.Clone(all[0])
}

// outcome says what comes of it.
func (x *explaining) outcome(l *proxy.Listener, seen proxy.Foreseen) {
	queued, waits := int64(0), false
	if id, there := x.inForce(x.pool.Name); there && x.pool.Queue > 0 {
		for _, seat := range x.plan.Seats {
			queued += x.s.board.Pool(seat.Number, id).Queued.Load()
		}
		waits = !x.s.board.PoolQueue(id).Empty() && slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool { return t.MaxSessions > 0 })
	}
	switch {
	case seen.Turned:
		x.Outcome, x.Reason = admin.OutcomeRefused, seen.Reject.String()
		x.Text = refusedText(x.Entrance, seen)
	case seen.Barred:
		x.Outcome = admin.OutcomeWaits
		x.Text = fmt.Sprintf("waits until its source has fewer sessions than source_sessions, for %s at most, and is then refused as source_sessions", l.Guard.Delay)
	case x.full && len(x.Tries) == 0 && queued >= int64(x.pool.Queue):
		x.Outcome, x.Reason = admin.OutcomeNoBackend, metrics.ReasonQueueFull.String()
		x.Text = "ends as queue_full: all backends have max_sessions, and the pool's queue has no place"
	case x.full && len(x.Tries) == 0 || waits:
		x.Outcome = admin.OutcomeQueued
		x.Text = fmt.Sprintf("waits in the queue of pool %s behind %d others, for %s at most", x.pool.Name, queued, x.pool.QueueTimeout)
	case x.nobody && l.WaitForBackend > 0:
		x.Outcome = admin.OutcomeWaits
		x.Text = fmt.Sprintf("waits for a backend, for %s at most: pool %s has none that takes new sessions", l.WaitForBackend, x.pool.Name)
	case x.nobody:
		x.Outcome, x.Reason = admin.OutcomeNoBackend, metrics.ReasonNoBackend.String()
		x.Text = fmt.Sprintf("ends as no_backend: pool %s has none that takes new sessions", x.pool.Name)
	default:
		x.Outcome = admin.OutcomeBackend
		x.Text = x.backendText()
	}
	if seen.Wait > 0 && !seen.Turned && !seen.Barred {
		x.Text += fmt.Sprintf(", after a delay of %s for the rate", seen.Wait.Round(time.Millisecond))
	}
}

func refusedText(e *admin.Entrance, seen proxy.Foreseen) string {
	switch seen.Reject {
	case metrics.RejectDenied:
		if e.Prefix == "" {
			return "is refused as denied: only those may connect that allow names"
		}
		return fmt.Sprintf("is refused as denied: %s is the longest prefix that contains it", e.Prefix)
	case metrics.RejectSourceRate, metrics.RejectRate:
		return fmt.Sprintf("is refused as %s: it comes %s too early", seen.Reject, seen.Wait.Round(time.Millisecond))
	}
	return fmt.Sprintf("is refused as %s", seen.Reject)
}

// backendText says what is known of the backend, and no more.
func (x *explaining) backendText() string {
	switch {
	case x.Exact:
		return fmt.Sprintf("goes to %s, whichever acceptor takes it", x.Tries[0])
	case x.pool.Pick == pool.Random2 || x.pool.Pick == pool.Fastest:
		return "goes to the better of two backends that are drawn at random, by weight"
	case len(x.Tries) > 0 && x.Steering.Next != nil:
		return fmt.Sprintf("goes to acceptor %d and from there to %s, if nobody comes before it", *x.Steering.Next, x.Tries[0])
	case len(x.Tries) > 0:
		return fmt.Sprintf("goes to %s, if nobody comes before it", x.Tries[0])
	case x.perSeat == nil:
		return "goes to one of the backends, as their turns come"
	}
	return "goes to the backend whose turn it is at the acceptor that takes it"
}

// note says what else is worth knowing.
func (x *explaining) note(f *front, v proxy.Visitor) {
	note := func(format string, a ...any) { x.Notes = append(x.Notes, fmt.Sprintf(format, a...)) }
	if x.s.draining.Load() {
		note("the service drains")
	}
	if !slices.ContainsFunc(x.Steering.Acceptors, func(a admin.ExplainedAcceptor) bool { return a.State == stateReady || a.State == stateSilent }) {
		note("no acceptor takes connections now: it waits in a queue of the kernel")
	}
	if n := len(f.config.Binds()); n > 1 {
		note("the listener has %d addresses; the acceptors are those of %s", n, x.Entrance.Address)
	}
	if f.config.ProxyProtocol != config.ProxyOff {
		note("the client is taken to be the one that a PROXY header names; it must come from proxy_protocol_from")
	}
	if !v.SpeaksTLS() && slices.ContainsFunc(f.config.Routes, func(r config.Route) bool { return len(r.SNI)+len(r.ALPN) > 0 }) {
		note("routes go by what TLS asks for: -sni NAME and -alpn PROTOCOL say it; this is a client that asks for nothing")
	}
	for _, n := range x.silent {
		note("acceptor %d did not say what it would pick", n)
	}
	if x.perSeat == nil && !x.Exact {
		note("turns are with the acceptors, so whose it will be is known when the file is in force")
	}
}

// changesFor says what differs for the client, a sentence each.
func changesFor(now, then []admin.Entrance) []string {
	changes := []string{}
	find := func(all []admin.Entrance, name string) *admin.Entrance {
		if i := slices.IndexFunc(all, func(e admin.Entrance) bool { return e.Listener == name }); i >= 0 {
			return &all[i]
		}
		return nil
	}
	for i := range now {
		e := find(then, now[i].Listener)
		if e == nil {
			changes = append(changes, fmt.Sprintf("%s: the listener is no more", now[i].Listener))
			continue
		}
		for _, d := range []struct{ what, was, is string }{
			{"address", now[i].Address, e.Address},
			{"outcome", outcomeOf(&now[i]), outcomeOf(e)},
			{"route", now[i].Route, e.Route}, {"pool", now[i].Pool, e.Pool}, {"pick", now[i].Pick, e.Pick},
			{"backend", first(&now[i], e), first(e, &now[i])}, {"then", rest(&now[i], e), rest(e, &now[i])},
			{"steering", now[i].Steering.Policy, e.Steering.Policy},
			{"acceptors", fmt.Sprint(len(now[i].Steering.Acceptors)), fmt.Sprint(len(e.Steering.Acceptors))},
		} {
			if d.was != d.is {
				changes = append(changes, fmt.Sprintf("%s: %s %s -> %s", e.Listener, d.what, orNone(d.was), orNone(d.is)))
			}
		}
	}
	for i := range then {
		if find(now, then[i].Listener) == nil {
			changes = append(changes, fmt.Sprintf("%s: the listener is new; the client %s", then[i].Listener, then[i].Text))
		}
	}
	return changes
}

func outcomeOf(e *admin.Entrance) string { return strings.TrimSpace(e.Outcome + " " + e.Reason) }

// first is what comes first, if it is known of both; else it is no change.
func first(e, other *admin.Entrance) string {
	if !bothKnown(e, other) {
		return ""
	}
	return e.Tries[0]
}

func rest(e, other *admin.Entrance) string {
	if !bothKnown(e, other) {
		return ""
	}
	return strings.Join(e.Tries[1:], ", ")
}

func bothKnown(a, b *admin.Entrance) bool {
	known := func(e *admin.Entrance) bool {
		return e.Exact && e.Outcome == admin.OutcomeBackend && len(e.Tries) > 0
	}
	return known(a) && known(b)
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
