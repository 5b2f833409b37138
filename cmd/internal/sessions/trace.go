package sessions

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/moving"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// A trace puts together what the journal's rings still hold of sessions and what acceptors
// say of those that are open:
//
//	records of a session   open   its worker died after them   state
//	an end                 -      -                            closed
//	no end                 yes    -                            open
//	no end                 no     yes                          lost
//	no end                 no     no                           unknown: its end was not recorded, or the acceptor does not answer
//	none                   yes    -                            open, with nothing but its age

// Trace says what happened to sessions.
func (d *Desk) Trace(q admin.TraceQuery) (admin.Trace, error) {
	t := admin.Trace{Sessions: []admin.TracedSession{}, Silent: []int{}, Recording: d.Recording()}
	m := accesslog.Meant{Client: q.Client}
	filter := proxy.Filter{}
	if q.ID != "" {
		id, err := journal.ParseID(q.ID)
		if err != nil {
			return t, err
		}
		m.ID, filter.ID = id, id
	} else {
		a := q.Client.Addr()
		filter.Clients = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	// First those that are open: what ends in between has its end in the ring.
	answers, silent := d.Mover.Ask(proxy.Survey{Filter: filter, Order: proxy.NewestFirst, Limit: q.Most()})
	t.Silent = append(t.Silent, silent...)
	stories, told := d.Records.Stories(m, q.Most())
	x := &tracing{Desk: d, silent: silent, open: map[journal.ID]proxy.Held{}}
	for _, h := range moving.Sorted(answers, proxy.NewestFirst, q.Most()) {
		if q.Client.Port() == 0 || h.Client == q.Client {
			x.open[h.ID] = h
		}
	}
	for _, story := range stories {
		t.Sessions = append(t.Sessions, x.session(story))
		delete(x.open, story.ID)
	}
	for _, h := range x.open {
		t.Sessions = append(t.Sessions, x.untold(h))
	}
	t.Matched = told + len(x.open)
	slices.SortStableFunc(t.Sessions, func(a, b admin.TracedSession) int { return b.Begun.Compare(a.Begun) })
	t.Sessions = t.Sessions[:min(len(t.Sessions), q.Most())]
	t.Since = d.forgotten(m.ID)
	if len(t.Sessions) == 0 {
		t.Text = d.nothingKnown(q, m.ID, &t)
	}
	return t, nil
}

// forgotten is as far as all rings go back in which the sessions may be; the zero time:
// nothing was forgotten.
func (d *Desk) forgotten(id journal.ID) (since time.Time) {
	for _, seat := range d.Seats() {
		if id != 0 && id.Seat() != seat {
			continue
		}
		if at := d.Records.Since(seat); at.After(since) {
			since = at
		}
	}
	return since
}

// nothingKnown says why there is nothing to tell.
func (d *Desk) nothingKnown(q admin.TraceQuery, id journal.ID, t *admin.Trace) string {
	what := "no session of " + q.Client.String()
	if q.Client.Port() == 0 {
		what = "no session of " + q.Client.Addr().String()
	}
	if id != 0 {
		what = "session " + q.ID
		if !slices.Contains(d.Seats(), id.Seat()) {
			return fmt.Sprintf("%s is not known: there is no acceptor %d", what, id.Seat())
		}
		what += " is not open and not"
	} else {
		what += " is open or"
	}
	text := what + " in the records"
	switch {
	case !t.Since.IsZero():
		text += fmt.Sprintf(", which go back to %s: what was before is forgotten", t.Since.Format(time.RFC3339))
	case !t.Recording:
		text += "; with [log] trace = true each step of a session is recorded"
	}
	return text + nothingOf(t.Silent)
}

// tracing is one trace under way.
type tracing struct {
	*Desk
	silent []int
	open   map[journal.ID]proxy.Held
}

// session tells a story.
func (x *tracing) session(story accesslog.Story) admin.TracedSession {
	last := &story.Records[len(story.Records)-1]
	t := admin.TracedSession{
		Listener: last.Listener.Name, Route: last.Route, Acceptor: story.ID.Seat(), Begun: last.Opened, State: admin.TraceUnknown,
		Partial: last.Kind != journal.KindRejected && story.Records[0].Kind != journal.KindAccepted,
	}
	if story.ID.Use() != 0 {
		t.ID = story.ID.String()
	}
	if c := last.Client.AddrPort(); c.IsValid() {
		t.Client = c.String()
	}
	t.Steps = stepsOf(story)
	held, open := x.open[story.ID]
	died := x.Records.Died(t.Acceptor)
	switch {
	case last.Kind == journal.KindClosed:
		t.State = admin.TraceClosed
	case last.Kind == journal.KindRejected:
		t.State = admin.TraceRejected
	case open:
		t.State, t.Now = admin.TraceOpen, new(admin.Session)
		*t.Now = x.describe(held)
	case died.After(last.Time):
		t.State = admin.TraceLost
		t.Steps = append(t.Steps, admin.TracedStep{Time: died.UTC(), Step: "worker_died", Reason: metrics.ReasonWorkerDied.String()})
	case !slices.Contains(x.silent, t.Acceptor):
		x.lookAgain(&t, story)
	}
	for i := range t.Steps {
		t.Steps[i].Seconds = max(t.Steps[i].Time.Sub(t.Begun).Seconds(), 0)
	}
	if n := len(t.Steps) - admin.MaxSteps; n > 0 {
		t.LeftOut = n
		t.Steps = slices.Delete(t.Steps, admin.MaxSteps/2, admin.MaxSteps/2+n)
	}
	return t
}

// lookAgain is for a session that has no end and was not among the open ones: it may have
// begun after these were asked for.
func (x *tracing) lookAgain(t *admin.TracedSession, story accesslog.Story) {
	answers, _ := x.Mover.Ask(proxy.Survey{Filter: proxy.Filter{ID: story.ID}, Limit: 1})
	for _, a := range answers {
		for _, h := range a.Held {
			t.State, t.Now = admin.TraceOpen, new(admin.Session)
			*t.Now = x.describe(h)
			return
		}
	}
	again, _ := x.Records.Stories(accesslog.Meant{ID: story.ID}, 1)
	if len(again) == 0 {
		return
	}
	if r := again[0].Records; r[len(r)-1].Kind == journal.KindClosed {
		t.State, t.Steps = admin.TraceClosed, stepsOf(again[0])
	}
}

// untold is a session that is open and of which no record is there.
func (x *tracing) untold(h proxy.Held) admin.TracedSession {
	d := x.describe(h)
	begun := time.Now().Add(-h.Age).UTC()
	return admin.TracedSession{
		ID: d.ID, Client: d.Client, Listener: d.Listener, Acceptor: h.ID.Seat(), State: admin.TraceOpen, Begun: begun, Partial: true,
		Steps: []admin.TracedStep{{Time: begun, Step: "accepted"}}, Now: &d,
	}
}
