// Package explain says where a client would go, and why. It asks what acceptors ask, in their
// order, of the same code:
//
//	View ─► Plan.Foresee (access, limits, route) ─► pool.Picker.Foresee ─► what it means, in words
//	                                                  │ source_hash, first: a picker of our own, which
//	                                                  │                     picks as all acceptors do
//	                                                  └ turns: View.Ask, what acceptors would pick
//
// A View is what is in force, or what a file would put in force. The control plane makes it;
// this package reads it, and changes nothing.
//
// Reading order: explain.go, steering.go (which acceptor takes the connection), tries.go
// (which backends it would be given), outcome.go, backends.go, change.go (what a file
// changes).
package explain

import (
	"fmt"
	"net/netip"
	"slices"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
	"sluice/proxy/pool"
)

// View is what an explanation looks at. It is not changed; what is on its boards goes on
// changing.
type View struct {
	Plan      *proxy.Plan
	Listeners []Listener // that serve: one for each address, in the order of the configuration
	Pools     []Pool     // one for each of the Plan's, in its order
	Acceptors []Acceptor
	Health    map[metrics.ID]metrics.Health // of targets
	Targets   *metrics.Board                // on which the Plan's targets have their words
	Service   *metrics.Board                // on which everything else is counted; of what is in force the same
	Clock     int64                         // CLOCK_MONOTONIC in nanoseconds
	Draining  bool                          // the service ends
	// Ask asks acceptors what they would pick for a client; silent are those that gave no answer.
	// nil = that can't be known: the View is not in force.
	Ask func(proxy.Ways) (answers map[int]proxy.Surveyed, silent []int)
}

// Listener is an address of a listener.
type Listener struct {
	ID       metrics.ID // in the Plan
	Config   config.Listener
	Address  string
	Access   *access.Set // nil = every client may connect
	Steering Steering
}

// Pool is what the Plan does not tell of a pool.
type Pool struct {
	Config config.Pool
	Queue  metrics.ID // on View.Service, in which its sessions stand now; 0 = it is new
}

// Explain answers q from what is in force. Where q names a file, then says what that would
// put in force; done gives it back.
func Explain(q admin.ExplainQuery, now *View, then func() (v *View, done func(), err error)) (x admin.Explanation, err error) {
	client, ok := proxy.NewVisitor(q.Client, q.SNI, q.ALPN)
	if !ok {
		return x, fmt.Errorf("no client can ask for the name %q and offer %q", q.SNI, q.ALPN)
	}
	x = admin.Explanation{Client: q.Client.String(), Generation: now.Plan.Generation}
	if x.Now, x.More, err = now.entrances(client, q.Listener); q.Config == "" {
		return x, err
	}
	v, done, fault := then()
	if fault != nil {
		return x, fault
	}
	defer done()
	x.Config = &admin.ExplainedChange{Path: q.Config}
	var missing error
	if x.Config.Then, _, missing = v.entrances(client, q.Listener); missing != nil && err != nil {
		return x, err // the listener is in neither
	}
	x.Config.Changes = changes(x.Now, x.Config.Then)
	return x, nil
}

// entrances are those of a listener, or of all.
func (v *View) entrances(client proxy.Visitor, name string) (all []admin.Entrance, more int, err error) {
	all = []admin.Entrance{}
	told := map[string]bool{}
	for i := range v.Listeners {
		l := &v.Listeners[i]
		if told[l.Config.Name] || name != "" && l.Config.Name != name {
			continue
		}
		told[l.Config.Name] = true
		if len(all) == admin.MaxExplained {
			more++
			continue
		}
		all = append(all, v.entrance(l, client))
	}
	if len(all) == 0 && name != "" {
		return all, 0, fmt.Errorf("there is no listener %q", name)
	}
	return all, more, nil
}

// entrance asks one listener.
func (v *View) entrance(l *Listener, client proxy.Visitor) admin.Entrance {
	planned := &v.Plan.Listeners[slices.IndexFunc(v.Plan.Listeners, func(p proxy.Listener) bool { return p.ID == l.ID })]
	seen := v.Plan.Foresee(v.Service, planned, l.Access, client, v.Clock)
	e := admin.Entrance{
		Listener: l.Config.Name, Address: l.Address, Admitted: !seen.Turned || seen.Reject != metrics.RejectDenied,
		Wait: seen.Wait.Seconds(), Route: seen.Route, Steering: v.steering(&l.Steering), Limits: limits(v.Plan, planned, seen), Tries: []string{}, Notes: []string{},
	}
	if l.Config.Access.Limited() {
		e.Access = l.Config.Access.String()
	}
	if seen.Prefix.IsValid() {
		e.Prefix = seen.Prefix.String()
	}
	i := slices.IndexFunc(v.Plan.Pools, func(p pool.Pool) bool { return p.ID == seen.Pool })
	x := &explaining{View: v, Entrance: &e, pool: &v.Plan.Pools[i], more: &v.Pools[i], client: client.Client}
	e.Pool, e.Pick = x.pool.Name, x.more.Config.Pick
	x.tries()
	x.backends()
	x.outcome(planned, seen)
	x.note(l, client)
	return e
}

func limits(p *proxy.Plan, l *proxy.Listener, seen proxy.Foreseen) []admin.ExplainedLimit {
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
	*View
	*admin.Entrance
	pool   *pool.Pool
	more   *Pool
	client netip.Addr
	full   bool // behind Tries come only targets that have max_sessions
	nobody bool // no target may be picked
	silent []int
}

func (x *explaining) address(i int) string { return pool.AddressText(x.pool.Targets[i].Addr) }

// note says what else is worth knowing.
func (x *explaining) note(l *Listener, client proxy.Visitor) {
	note := func(format string, a ...any) { x.Notes = append(x.Notes, fmt.Sprintf(format, a...)) }
	if x.Draining {
		note("the service drains")
	}
	if !slices.ContainsFunc(x.Steering.Acceptors, func(a admin.ExplainedAcceptor) bool { return a.State == Ready || a.State == silent }) {
		note("no acceptor takes connections now: it waits in a queue of the kernel")
	}
	if n := len(l.Config.Binds()); n > 1 {
		note("the listener has %d addresses; the acceptors are those of %s", n, l.Address)
	}
	if l.Config.ProxyProtocol != config.ProxyOff {
		note("the client is taken to be the one that a PROXY header names; it must come from proxy_protocol_from")
	}
	if !client.SpeaksTLS() && slices.ContainsFunc(l.Config.Routes, func(r config.Route) bool { return len(r.SNI)+len(r.ALPN) > 0 }) {
		note("routes go by what TLS asks for: -sni NAME and -alpn PROTOCOL say it; this is a client that asks for nothing")
	}
	if x.pool.Transparent {
		note("the pool is transparent: only backends of the client's address family are for it")
	}
	for _, n := range x.silent {
		note("acceptor %d did not say what it would pick", n)
	}
	if x.Ask == nil && !x.Exact {
		note("turns are with the acceptors, so whose it will be is known when the file is in force")
	}
}
