package admin

import (
	"time"

	"sluice/metrics"
)

// view is what the page shows of a Snapshot, under the names of /status.json: without the
// histograms and what is 0, which are nine tenths of that for a service of 1,000 backends.
type view struct {
	Page string    `json:"page"` // the edition of the page; one of another loads itself anew
	Time time.Time `json:"time"`
	metrics.Service
	Listeners []viewListener          `json:"listeners"`
	Pools     []viewPool              `json:"pools"`
	Acceptors []metrics.AcceptorStats `json:"acceptors"`
	Workers   []metrics.Worker        `json:"workers"`
}

type viewListener struct {
	metrics.Listener
	Waiting   int64                   `json:"waiting"`
	Rejected  map[string]uint64       `json:"rejected"`
	Closed    map[string]uint64       `json:"closed"`
	Received  map[string]uint64       `json:"received_bytes"`
	Sent      map[string]uint64       `json:"sent_bytes"`
	Acceptors []viewSocket            `json:"acceptors"`
	Balance   metrics.ListenerBalance `json:"balance"`
	Routes    []viewRoute             `json:"routes,omitempty"` // those that may be shown, in the order of the configuration
	OfRoutes  int                     `json:"routes_total,omitempty"`
	Routed    *viewRouted             `json:"routed,omitempty"` // by all routes together
}

type viewSocket struct {
	Acceptor  int            `json:"acceptor"`
	Accepted  uint64         `json:"accepted"`
	Active    int64          `json:"active"`
	HandedOff uint64         `json:"handed_off,omitempty"`
	Rescued   uint64         `json:"rescued,omitempty"`
	Queue     *metrics.Queue `json:"queue,omitempty"`
}

type viewPool struct {
	Name      string        `json:"name"`
	Pick      string        `json:"pick"`
	Panic     bool          `json:"panic"`
	Retries   uint64        `json:"retries"`
	NoBackend uint64        `json:"no_backend"`
	Backends  []viewBackend `json:"backends"`
}

type viewBackend struct {
	Name    string       `json:"name"`
	Weight  int          `json:"weight"`
	Backup  bool         `json:"backup,omitempty"`
	Targets []viewTarget `json:"targets"`
}

type viewTarget struct {
	Address       string              `json:"address"`
	State         metrics.TargetState `json:"state"`
	Since         time.Time           `json:"since"`
	Weight        float64             `json:"weight_in_force"`
	Operator      *metrics.Operator   `json:"operator,omitempty"`
	Check         *viewCheck          `json:"check,omitempty"`
	Active        int64               `json:"active,omitempty"`
	Sessions      uint64              `json:"sessions,omitempty"`
	ConnectErrors map[string]uint64   `json:"connect_errors,omitempty"`
	Received      uint64              `json:"received_bytes,omitempty"`
	Sent          uint64              `json:"sent_bytes,omitempty"`
	Failing       bool                `json:"failing,omitempty"`
	FailingClass  string              `json:"failing_class,omitempty"`
}

type viewCheck struct {
	Up    bool   `json:"up"`
	Error string `json:"error,omitempty"`
}

func viewOf(s *metrics.Snapshot) view {
	v := view{
		Page: edition, Time: s.Time, Service: s.Service, Acceptors: s.Acceptors, Workers: s.Workers,
		Listeners: make([]viewListener, len(s.Listeners)), Pools: make([]viewPool, len(s.Pools)),
	}
	for i := range s.Listeners {
		v.Listeners[i] = viewOfListener(&s.Listeners[i])
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		v.Pools[i] = viewPool{Name: p.Name, Pick: p.Pick, Panic: p.Panic, Retries: p.Retries, NoBackend: p.NoBackend, Backends: make([]viewBackend, len(p.Backends))}
		for j := range p.Backends {
			v.Pools[i].Backends[j] = viewOfBackend(&p.Backends[j])
		}
	}
	return v
}

func viewOfListener(l *metrics.ListenerStats) viewListener {
	v := viewListener{
		Listener: l.Listener, Waiting: l.Waiting, Rejected: nonZero(l.Rejected), Closed: nonZero(l.Closed),
		Received: nonZero(l.Received), Sent: nonZero(l.Sent), Balance: l.Balance, Acceptors: make([]viewSocket, len(l.Acceptors)),
	}
	for i, a := range l.Acceptors {
		v.Acceptors[i] = viewSocket{Acceptor: a.Number, Accepted: a.Accepted, Active: a.Active, HandedOff: a.HandedOff, Rescued: a.Rescued, Queue: a.Queue}
	}
	v.Routes, v.OfRoutes, v.Routed = viewOfRoutes(l.Routes)
	return v
}

func viewOfBackend(b *metrics.BackendStats) viewBackend {
	v := viewBackend{Name: b.Name, Weight: b.Weight, Backup: b.Backup, Targets: make([]viewTarget, len(b.Targets))}
	for i := range b.Targets {
		t := &b.Targets[i]
		v.Targets[i] = viewTarget{
			Address: t.Address, State: t.State, Since: t.Since, Weight: t.Weight, Operator: t.Operator,
			Active: t.Active, Sessions: t.Sessions, ConnectErrors: nonZero(t.ConnectErrors),
			Received: t.Received, Sent: t.Sent, Failing: t.Failing, FailingClass: t.FailingClass,
		}
		if c := t.Check; c != nil {
			v.Targets[i].Check = &viewCheck{c.Up, c.Error}
		}
	}
	return v
}

func nonZero(c metrics.Counts) map[string]uint64 {
	some := map[string]uint64{}
	for word, n := range c.All() {
		if n != 0 {
			some[word] = n
		}
	}
	return some
}
