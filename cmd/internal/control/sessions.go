package control

import (
	"cmp"
	"fmt"
	"slices"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/moving"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

var orders = map[string]proxy.Order{"": proxy.OldestFirst, "oldest": proxy.OldestFirst, "newest": proxy.NewestFirst, "idle": proxy.IdlestFirst, "bytes": proxy.LargestFirst}

// sessions finds open sessions. It may be called by any goroutine, as may kill.
func (s *service) sessions(q admin.SessionQuery, o admin.SessionOrder) (admin.SessionList, error) {
	list := admin.SessionList{Sessions: []admin.Session{}, Silent: []int{}}
	filter, err := s.filterOf(q)
	if err != nil {
		return list, err
	}
	limit := cmp.Or(o.Limit, admin.DefaultSessions)
	answers, silent := s.movement.Ask(proxy.Survey{Filter: filter, Order: orders[o.Sort], Limit: limit})
	for _, a := range answers {
		list.Matched, list.Open = list.Matched+a.Matched, list.Open+a.Seen
	}
	list.Silent = append(list.Silent, silent...)
	for _, h := range moving.Sorted(answers, orders[o.Sort], limit) {
		list.Sessions = append(list.Sessions, s.describe(h))
	}
	return list, nil
}

func (s *service) describe(h proxy.Held) admin.Session {
	l := s.access.Names.Listener(h.Listener)
	d := admin.Session{
		ID: h.ID.String(), Listener: l.Name, Pool: l.Pool, State: h.State.String(),
		AgeSeconds: h.Age.Seconds(), IdleSeconds: h.Idle.Seconds(), Received: h.Received, Sent: h.Sent,
	}
	if h.Client.IsValid() {
		d.Client = h.Client.String()
	}
	if h.Target >= 0 {
		t := s.access.Names.Target(uint32(h.Target))
		d.Pool, d.Backend, d.Address = t.Pool, t.Backend, t.Addr
	}
	return d
}

// kill ends sessions, unless there are more than the caller reckons with.
func (s *service) kill(o admin.KillOrder) admin.Verdict {
	filter, err := s.filterOf(o.SessionQuery)
	if err != nil {
		return s.verdict(false, err.Error(), nil)
	}
	counted, silent := s.movement.Ask(proxy.Survey{Filter: filter})
	total, quotas := 0, map[int]int{}
	for seat, a := range counted {
		if a.Matched > 0 {
			quotas[seat] = a.Matched
			total += a.Matched
		}
	}
	switch {
	case o.Max == 0:
		return s.verdict(false, fmt.Sprintf("%s would end; say how many may at most: -max %d%s", sessionsIn(total), total, nothingOf(silent)), nil)
	case total > o.Max:
		return s.verdict(false, fmt.Sprintf("nothing ended: %d match, which is more than -max %d%s", total, o.Max, nothingOf(silent)), nil)
	}
	if o.PerSecond > 0 {
		if !s.movement.killSlowly(filter, total, o.PerSecond) {
			return s.verdict(false, "nothing ended: an earlier kill is under way", nil)
		}
		return s.verdict(true, fmt.Sprintf("%s end, %d a second%s", sessionsIn(total), o.PerSecond, nothingOf(silent)), nil)
	}
	answers, late := s.movement.EndAt(proxy.Survey{Filter: filter, End: true, Reason: metrics.ReasonKilled}, quotas)
	ended := 0
	for _, a := range answers {
		ended += a.Ended
	}
	silent = union(silent, late)
	text := fmt.Sprintf("%s ended%s", sessionsIn(ended), nothingOf(silent))
	if ended == 0 && o.ID != "" && len(silent) == 0 {
		return s.verdict(false, fmt.Sprintf("no session %s is open", o.ID), nil)
	}
	return s.verdict(len(silent) == 0, text, nil)
}

// filterOf is a query in the numbers of acceptors. It fails on what nothing has the name of:
// an empty list would mean all.
func (s *service) filterOf(q admin.SessionQuery) (f proxy.Filter, err error) {
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
		f.Listeners = s.access.Names.Listeners(func(l accesslog.Listener) bool { return l.Name == q.Listener })
		if len(f.Listeners) == 0 {
			return f, fmt.Errorf("there is no listener %q", q.Listener)
		}
	}
	if q.To != "" || q.Pool != "" {
		f.Targets = s.access.Names.Targets(func(t accesslog.Target) bool {
			return (q.Pool == "" || t.Pool == q.Pool) && (q.To == "" || t.Backend == q.To || t.Addr == q.To)
		})
		if len(f.Targets) == 0 {
			return f, fmt.Errorf("there is no such backend: %s", describeTarget(q.To, q.Pool))
		}
	}
	return f, nil
}

func describeTarget(to, pool string) string {
	switch {
	case pool == "":
		return fmt.Sprintf("%q", to)
	case to == "":
		return fmt.Sprintf("none in pool %q", pool)
	}
	return fmt.Sprintf("%q in pool %q", to, pool)
}

func sessionsIn(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// nothingOf says which acceptors did not answer; "" = all did.
func nothingOf(silent []int) string {
	if len(silent) == 0 {
		return ""
	}
	return fmt.Sprintf("; no whole answer in time from acceptor %s: of its sessions not all is known", list(silent))
}

func list(numbers []int) (text string) {
	for i, n := range numbers {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(n)
	}
	return text
}

func union(a, b []int) []int {
	a = append(slices.Clone(a), b...)
	slices.Sort(a)
	return slices.Compact(a)
}
