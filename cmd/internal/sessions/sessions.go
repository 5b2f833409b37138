// Package sessions answers what operators ask about sessions: which are open, end these, and
// what happened to that one.
//
//	sluice sessions ─► Find ──┐          ┌─► moving.Mover ─► acceptors: what is open, and what ends
//	sluice kill ─────► Kill ──┼─► Desk ──┤
//	sluice trace ────► Trace ─┘          └─► Records: what the rings of the journal still hold
//
// An acceptor that hangs is not waited for: the answer names it, and nothing happens there later.
//
// Reading order: sessions.go, kill.go, trace.go (what is known, put together), steps.go.
package sessions

import (
	"cmp"
	"fmt"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/moving"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// Desk is where the questions are answered. Its methods may be called by any goroutine.
type Desk struct {
	Mover     *moving.Mover
	Names     *accesslog.Names // of listeners and targets
	Records   Records
	Recording func() bool  // whether each step of a session is recorded now
	Seats     func() []int // of the acceptors that there are
}

// Records are what is written down of sessions: accesslog.Log has them.
type Records interface {
	Stories(m accesslog.Meant, most int) (all []accesslog.Story, total int)
	Since(seat int) time.Time // as far as they go back; zero = nothing was forgotten
	Died(seat int) time.Time  // when a worker died last; zero = none did
}

var orders = map[string]proxy.Order{"": proxy.OldestFirst, "oldest": proxy.OldestFirst, "newest": proxy.NewestFirst, "idle": proxy.IdlestFirst, "bytes": proxy.LargestFirst}

// Find finds open sessions.
func (d *Desk) Find(q admin.SessionQuery, o admin.SessionOrder) (admin.SessionList, error) {
	list := admin.SessionList{Sessions: []admin.Session{}, Silent: []int{}}
	filter, err := d.filter(q)
	if err != nil {
		return list, err
	}
	limit := cmp.Or(o.Limit, admin.DefaultSessions)
	answers, silent := d.Mover.Ask(proxy.Survey{Filter: filter, Order: orders[o.Sort], Limit: limit})
	for _, a := range answers {
		list.Matched, list.Open = list.Matched+a.Matched, list.Open+a.Seen
	}
	list.Silent = append(list.Silent, silent...)
	for _, h := range moving.Sorted(answers, orders[o.Sort], limit) {
		list.Sessions = append(list.Sessions, d.describe(h))
	}
	return list, nil
}

func (d *Desk) describe(h proxy.Held) admin.Session {
	l := d.Names.Listener(h.Listener)
	s := admin.Session{
		ID: h.ID.String(), Listener: l.Name, Pool: l.Pool, State: h.State.String(),
		AgeSeconds: h.Age.Seconds(), IdleSeconds: h.Idle.Seconds(), Received: h.Received, Sent: h.Sent,
	}
	if h.Client.IsValid() {
		s.Client = h.Client.String()
	}
	if h.Target >= 0 {
		t := d.Names.Target(uint32(h.Target))
		s.Pool, s.Backend, s.Address = t.Pool, t.Backend, t.Addr
	}
	return s
}

// filter is a query in the numbers of acceptors. It fails on what nothing has the name of:
// an empty list would mean all.
func (d *Desk) filter(q admin.SessionQuery) (f proxy.Filter, err error) {
	f = proxy.Filter{Clients: q.From, MinAge: q.MinAge, MaxAge: q.MaxAge, MinIdle: q.MinIdle, MinBytes: q.MinBytes, MaxBytes: q.MaxBytes}
	if q.ID != "" {
		if f.ID, err = journal.ParseID(q.ID); err != nil {
			return f, err
		}
	}
	if q.State != "" {
		f.State, _ = proxy.HeldStateOf(q.State) // it is one: admin has checked it
	}
	if q.Listener != "" {
		f.Listeners = d.Names.Listeners(func(l accesslog.Listener) bool { return l.Name == q.Listener })
		if len(f.Listeners) == 0 {
			return f, fmt.Errorf("there is no listener %q", q.Listener)
		}
	}
	if q.To != "" || q.Pool != "" {
		f.Targets = d.Names.Targets(func(t accesslog.Target) bool {
			return (q.Pool == "" || t.Pool == q.Pool) && (q.To == "" || t.Backend == q.To || t.Addr == q.To)
		})
		if len(f.Targets) == 0 {
			return f, fmt.Errorf("there is no such backend: %s", targetText(q.To, q.Pool))
		}
	}
	return f, nil
}

func targetText(to, pool string) string {
	switch {
	case pool == "":
		return fmt.Sprintf("%q", to)
	case to == "":
		return fmt.Sprintf("none in pool %q", pool)
	}
	return fmt.Sprintf("%q in pool %q", to, pool)
}
