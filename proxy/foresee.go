package proxy

import (
	"net/netip"
	"time"

	"sluice/metrics"
	"sluice/proxy/access"
	"sluice/proxy/preamble"
)

// What would become of a client that came now can be asked before it comes:
//
//	Plan.Foresee      who may enter, which route and pool: any goroutine that has the Plan and the board
//	Survey with Ways  which targets an acceptor would give it, one after the other: the loop's own
//	                  picker, which alone knows its turns
//
// Both use what the loop uses, and take nothing: no place, no turn, nothing of a rate.

// Visitor is a client that may come.
type Visitor struct {
	Client netip.Addr // as the PROXY header tells it, where there is one
	hello  preamble.Hello
}

// NewVisitor is a client whose TLS asks for a name and offers protocols; without both it
// speaks something else. ok = false: no client can ask for that.
func NewVisitor(client netip.Addr, name string, protocols []string) (v Visitor, ok bool) {
	v.Client = client
	if name == "" && len(protocols) == 0 {
		return v, true
	}
	v.hello, ok = preamble.NewHello(name, protocols)
	return v, ok
}

// SpeaksTLS says whether it does.
func (v *Visitor) SpeaksTLS() bool { return v.hello.TLS }

// Foreseen is what a listener would do with a Visitor.
type Foreseen struct {
	Prefix         netip.Prefix // the longest of its access set that contains the client; not valid = none does
	Sessions       int64        // that count for its MaxSessions
	AllSessions    int64        // that count for the Plan's
	SourceSessions int          // that the client's source has, if there is a limit for that
	Wait           time.Duration
	Barred         bool // it waits for another session of its source to end
	Turned         bool // away: Reject says why
	Reject         metrics.Reject
	Route          string // "" = none matches
	Pool           metrics.ID
}

// Foresee says what l, which is one of p's that serve, would do with v. set is its access
// set, now is CLOCK_MONOTONIC.
func (p *Plan) Foresee(b *metrics.Board, l *Listener, set *access.Set, v Visitor, now int64) Foreseen {
	f := Foreseen{Pool: l.Pool, Sessions: p.sessionsOf(b, l)}
	for _, s := range p.Seats {
		f.AllSessions += b.Acceptor(s.Number).Sessions.Load()
	}
	full := l.MaxSessions > 0 && f.Sessions >= int64(l.MaxSessions) || p.MaxSessions > 0 && f.AllSessions >= int64(p.MaxSessions)
	f.judge(p, b, l, set, v.Client, now)
	if full && (!f.Turned || l.Preamble.Proxy != ProxyOff) { // it takes a place before a header is waited for
		f.turn(metrics.RejectMaxSessions)
	}
	if r := newRouter(l.Preamble.Routes).find(&v.hello, v.Client); r != nil {
		f.Route, f.Pool = r.Name, r.Pool
	}
	return f
}

func (f *Foreseen) turn(why metrics.Reject) { f.Turned, f.Reject = true, why }

// judge is Acceptor.judge, but that it takes nothing.
func (f *Foreseen) judge(p *Plan, b *metrics.Board, l *Listener, set *access.Set, client netip.Addr, now int64) {
	g := &l.Guard
	if set != nil {
		f.Prefix, _ = set.Covering(client)
	}
	first := p.byListener()[l.Name].first(l)
	sourceWait := time.Duration(0)
	if g.Source.On() {
		s := access.NewSources(b, 0)
		f.SourceSessions, sourceWait = s.Look(first, client, &g.Source, now, g.Delay)
	}
	wait := g.Rate.Wait(&b.Rates()[first.Index()], now, g.Delay)
	switch {
	case set != nil && !set.Admits(client):
		f.turn(metrics.RejectDenied)
	case g.Source.Sessions > 0 && f.SourceSessions >= g.Source.Sessions && g.bars() && p.waitingFor(b, l) < int64(l.MaxWaiting):
		f.Barred = true
	case g.Source.Sessions > 0 && f.SourceSessions >= g.Source.Sessions:
		f.turn(metrics.RejectSourceSessions)
	case sourceWait > g.Delay:
		f.turn(metrics.RejectSourceRate)
	case wait > g.Delay:
		f.turn(metrics.RejectRate)
	}
	f.Wait = max(wait, sourceWait)
}

// sessionsOf are those of a listener over all acceptors and all of its addresses.
func (p *Plan) sessionsOf(b *metrics.Board, l *Listener) int64 {
	return p.sumOf(b, l, func(c *metrics.ListenerCells) *metrics.Gauge { return &c.Active })
}

// waitingFor are those of them that wait.
func (p *Plan) waitingFor(b *metrics.Board, l *Listener) int64 {
	return p.sumOf(b, l, func(c *metrics.ListenerCells) *metrics.Gauge { return &c.Waiting })
}

func (p *Plan) sumOf(b *metrics.Board, l *Listener, gauge func(*metrics.ListenerCells) *metrics.Gauge) (n int64) {
	for _, id := range p.byListener()[l.Name] {
		for _, s := range p.Seats {
			n += gauge(b.Listener(s.Number, id)).Load()
		}
	}
	return n
}

// Ways asks an acceptor which targets of a pool it would give a client.
type Ways struct {
	Pool   metrics.ID `json:"pool"`
	Client netip.Addr `json:"client,omitzero"`
	Most   int        `json:"most"` // at most MaxWays
}

// MaxWays is more than a session tries.
const MaxWays = maxTries + 1

// Check says whether it makes sense.
func (w *Ways) Check() bool {
	return w == nil || w.Pool.Valid(metrics.MaxPools) && w.Most >= 0 && w.Most <= MaxWays
}

// foresee answers Ways by the picker that the loop picks with. It takes as long as a few picks.
func (a *Acceptor) foresee(w *Ways, to *Surveyed) {
	p := a.bound.pools[w.Pool]
	if p == nil {
		return
	}
	ways, full := p.picker.Foresee(w.Client, w.Most)
	to.Known, to.Full = true, full
	for _, i := range ways {
		to.Ways = append(to.Ways, p.Targets[i].ID)
	}
}
