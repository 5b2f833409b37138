package sessions

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// records are written by hand.
type records struct {
	stories     []accesslog.Story
	since, died map[int]time.Time
}

func (r *records) Stories(m accesslog.Meant, most int) (all []accesslog.Story, total int) {
	for _, s := range r.stories {
		c := s.Records[0].Client.AddrPort()
		if m.ID != 0 && s.ID == m.ID || m.ID == 0 && c.Addr() == m.Client.Addr() && (m.Client.Port() == 0 || c.Port() == m.Client.Port()) {
			all = append(all, s)
		}
	}
	return all[:min(most, len(all))], len(all)
}

func (r *records) Since(seat int) time.Time { return r.since[seat] }
func (r *records) Died(seat int) time.Time  { return r.died[seat] }

// begun is when all sessions of these tests did.
var begun = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// did is a record of something, some milliseconds after the accept.
func did(kind journal.Kind, after int64, change func(r *accesslog.Told)) accesslog.Told {
	ms := int64(time.Millisecond)
	r := accesslog.Told{
		Record: journal.Record{
			Kind: kind, Opened: ms, At: (1 + after) * ms, Client: journal.PeerOf(netip.MustParseAddrPort("10.0.0.1:1000")),
		},
		Listener: accesslog.Listener{Name: "web"}, Target: accesslog.Target{Pool: "app", Backend: "a", Addr: "10.1.0.1:80"},
		Time: begun.Add(time.Duration(after) * time.Millisecond), Opened: begun,
	}
	if change != nil {
		change(&r)
	}
	return r
}

func accepted() accesslog.Told { return did(journal.KindAccepted, 0, nil) }
func closed() accesslog.Told {
	return did(journal.KindClosed, 9, func(r *accesslog.Told) { r.Reason = metrics.ReasonClientEOF })
}

func TestStates(t *testing.T) {
	mine := held(1, 1, 0)
	for name, c := range map[string]struct {
		records []accesslog.Told
		open    bool
		begins  bool // it is open, but was not as it was asked for the first time
		ends    bool // it is not, and its end is recorded by the time that is asked for again
		died    time.Duration
		hangs   bool
		want    string // state, and the last step
	}{
		"an end":                   {records: []accesslog.Told{accepted(), closed()}, want: "closed closed client_eof"},
		"an end, still open":       {records: []accesslog.Told{accepted(), closed()}, open: true, want: "closed closed client_eof"},
		"an end, then it died":     {records: []accesslog.Told{closed()}, died: time.Minute, want: "closed closed client_eof"},
		"no end, open":             {records: []accesslog.Told{accepted()}, open: true, want: "open accepted"},
		"no end, died after":       {records: []accesslog.Told{accepted()}, died: time.Minute, want: "lost worker_died worker_died"},
		"no end, died before":      {records: []accesslog.Told{accepted()}, died: -time.Minute, want: "unknown accepted"},
		"no end, nobody has it":    {records: []accesslog.Told{accepted()}, want: "unknown accepted"},
		"no end, no answer":        {records: []accesslog.Told{accepted()}, hangs: true, want: "unknown accepted"},
		"open by now":              {records: []accesslog.Told{accepted()}, begins: true, want: "open accepted"},
		"ended by now":             {records: []accesslog.Told{accepted()}, ends: true, want: "closed closed client_eof"},
		"no record, open":          {open: true, want: "open accepted"},
		"never was a session":      {records: []accesslog.Told{did(journal.KindRejected, 0, func(r *accesslog.Told) { r.Reject = metrics.RejectDenied })}, want: "rejected rejected denied"},
		"recorded since the start": {records: []accesslog.Told{did(journal.KindDialed, 3, nil)}, open: true, want: "open dials"},
	} {
		s := newScene(t)
		s.hangs[1] = c.hangs
		if c.died != 0 {
			s.records.died[1] = begun.Add(c.died)
		}
		story := accesslog.Story{ID: mine.ID, Records: c.records}
		if strings.HasPrefix(c.want, "rejected") {
			story.ID = id(1, 0)
		}
		if c.records != nil {
			s.records.stories = []accesslog.Story{story}
		}
		if c.open {
			s.hold(mine)
		}
		s.ask = func(q proxy.Survey) {
			if q.Filter.ID == 0 {
				return
			}
			if c.begins {
				s.held = append(s.held, mine)
			}
			if c.ends {
				s.records.stories[0].Records = append(c.records, closed())
			}
		}
		trace, err := s.Trace(admin.TraceQuery{Client: netip.MustParseAddrPort("10.0.0.1:0")})
		if err != nil || len(trace.Sessions) != 1 || trace.Matched != 1 || trace.Text != "" {
			t.Fatalf("%s: %+v, %v", name, trace, err)
		}
		one := trace.Sessions[0]
		last := one.Steps[len(one.Steps)-1]
		if got := strings.TrimSpace(one.State + " " + last.Step + " " + last.Reason); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if isOpen := one.State == admin.TraceOpen; (one.Now != nil) != isOpen || isOpen && one.Now.ID != one.ID {
			t.Errorf("%s: now %+v", name, one.Now)
		}
		wantID := mine.ID.String()
		if one.State == admin.TraceRejected {
			wantID = ""
		}
		if one.ID != wantID || one.Client != "10.0.0.1:1000" || one.Listener != "web" || one.Acceptor != 1 {
			t.Errorf("%s: %+v", name, one)
		}
		if partial := c.records == nil || c.records[0].Kind != journal.KindAccepted && c.records[0].Kind != journal.KindRejected; one.Partial != partial {
			t.Errorf("%s: partial %v", name, one.Partial)
		}
		if c.hangs != slices.Equal(trace.Silent, []int{1}) {
			t.Errorf("%s: silent %v", name, trace.Silent)
		}
	}
}

func TestSteps(t *testing.T) {
	ms := int64(time.Millisecond)
	dialed := func(r *accesslog.Told) { r.Dialed = 3 * ms }
	for name, c := range map[string]struct {
		records []accesslog.Told
		want    []string
	}{
		"each": {[]accesslog.Told{
			accepted(), did(journal.KindWaits, 1, nil), did(journal.KindDialed, 2, dialed),
			did(journal.KindDialFailed, 4, func(r *accesslog.Told) { dialed(r); r.Class = metrics.ConnectRefused }),
			did(journal.KindDialed, 5, func(r *accesslog.Told) { r.Dialed = 6 * ms }),
			did(journal.KindConnected, 7, func(r *accesslog.Told) { r.Dialed, r.Connected = 6*ms, 8*ms }),
			did(journal.KindClosed, 9, func(r *accesslog.Told) {
				r.Dialed, r.Connected, r.Reason, r.Received, r.Sent, r.Flags = 6*ms, 8*ms, metrics.ReasonBackendEOF, 1, 2, journal.Spliced
			}),
		}, []string{
			"0ms accepted", "1ms waits", "2ms dials app a 10.1.0.1:80", "4ms dial_failed app a 10.1.0.1:80 refused in 2ms", "5ms dials app a 10.1.0.1:80",
			"7ms connected app a 10.1.0.1:80 in 2ms", "9ms closed backend_eof 1+2 splice",
		}},
		"the end knows more": {[]accesslog.Told{did(journal.KindClosed, 9, func(r *accesslog.Told) {
			r.Dialed, r.Connected, r.Reason, r.Received = 6*ms, 8*ms, metrics.ReasonClientEOF, 1
		})}, []string{"0ms accepted", "5ms dials app a 10.1.0.1:80", "7ms connected app a 10.1.0.1:80 in 2ms", "9ms closed client_eof 1+0 copy"}},
		"nothing moved":     {[]accesslog.Told{accepted(), did(journal.KindClosed, 9, func(r *accesslog.Told) { r.Reason = metrics.ReasonNoBackend })}, []string{"0ms accepted", "9ms closed no_backend"}},
		"bytes not known":   {[]accesslog.Told{did(journal.KindClosed, 9, func(r *accesslog.Told) { r.Reason, r.Received, r.Flags = metrics.ReasonClientEOF, 7, journal.Partial })}, []string{"0ms accepted", "9ms closed client_eof"}},
		"rejected":          {[]accesslog.Told{did(journal.KindRejected, 0, func(r *accesslog.Told) { r.Reject = metrics.RejectRate })}, []string{"0ms rejected rate"}},
		"a connect was cut": {[]accesslog.Told{accepted(), did(journal.KindDialed, 2, dialed)}, []string{"0ms accepted", "2ms dials app a 10.1.0.1:80"}},
	} {
		s := newScene(t)
		s.records.stories = []accesslog.Story{{ID: id(0, 7), Records: c.records}}
		trace, err := s.Trace(admin.TraceQuery{ID: id(0, 7).String()})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, step := range trace.Sessions[0].Steps {
			text := strings.Join(strings.Fields(strings.Join([]string{step.Step, step.Pool, step.Backend, step.Address, step.Reason}, " ")), " ")
			if step.Took > 0 {
				text += fmt.Sprintf(" in %.0fms", step.Took*1000)
			}
			if step.In+step.Out > 0 {
				text += fmt.Sprintf(" %d+%d %s", step.In, step.Out, step.Path)
			}
			got = append(got, fmt.Sprintf("%.0fms %s", step.Seconds*1000, text))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Of very many steps those in the middle are left out, and of sessions the oldest.
func TestTraceIsBounded(t *testing.T) {
	s := newScene(t)
	story := accesslog.Story{ID: id(0, 1)}
	for i := range int64(admin.MaxSteps + 10) {
		story.Records = append(story.Records, did(journal.KindWaits, i+1, nil))
	}
	story.Records = append(story.Records, did(journal.KindClosed, admin.MaxSteps+11, nil))
	s.records.stories = append(s.records.stories, story)
	for use := range uint32(5) {
		r := closed()
		r.Opened = begun.Add(time.Duration(use+1) * time.Second)
		s.records.stories = append([]accesslog.Story{{ID: id(1, use+2), Records: []accesslog.Told{r}}}, s.records.stories...)
	}
	long, err := s.Trace(admin.TraceQuery{ID: id(0, 1).String()})
	if err != nil {
		t.Fatal(err)
	}
	if one := long.Sessions[0]; len(one.Steps) != admin.MaxSteps || one.LeftOut != 12 || one.Steps[0].Step != "accepted" || one.Steps[admin.MaxSteps-1].Step != "closed" {
		t.Errorf("%d steps, %d left out", len(one.Steps), one.LeftOut)
	}
	some, err := s.Trace(admin.TraceQuery{Client: netip.MustParseAddrPort("10.0.0.1:1000"), Limit: 3})
	if err != nil || len(some.Sessions) != 3 || some.Matched != 6 || some.Sessions[0].ID != "1-0-6" || some.Sessions[2].ID != "1-0-4" {
		t.Errorf("%d of %d: %+v, %v", len(some.Sessions), some.Matched, some.Sessions, err)
	}
}

func TestNothingKnown(t *testing.T) {
	for _, c := range []struct {
		query     string
		recording bool
		since     int // the seat whose ring has forgotten; -1 = none
		hangs     bool
		want      string
	}{
		{"10.9.0.1", false, -1, false, "no session of 10.9.0.1 is open or in the records; with [log] trace = true each step of a session is recorded"},
		{"10.9.0.1:5", true, -1, false, "no session of 10.9.0.1:5 is open or in the records"},
		{"10.9.0.1", true, 1, false, "no session of 10.9.0.1 is open or in the records, which go back to 2026-01-02T03:04:05Z: what was before is forgotten"},
		{"0-5-a", true, -1, false, "session 0-5-a is not open and not in the records"},
		{"0-5-a", true, 1, false, "session 0-5-a is not open and not in the records"},
		{"1-5-a", false, 1, true, "session 1-5-a is not open and not in the records, which go back to 2026-01-02T03:04:05Z: what was before is forgotten" +
			"; no whole answer in time from acceptor 1: of its sessions not all is known"},
		{"40-5-a", true, -1, false, "session 40-5-a is not known: there is no acceptor 40"},
	} {
		s := newScene(t)
		s.hangs[1] = c.hangs
		s.Recording = func() bool { return c.recording }
		if c.since >= 0 {
			s.records.since[c.since] = begun
		}
		trace, err := s.Trace(admin.ParseTraced(c.query))
		if err != nil || trace.Text != c.want || len(trace.Sessions) != 0 || trace.Recording != c.recording {
			t.Errorf("%s: %q, %v", c.query, trace.Text, err)
		}
	}
	if _, err := newScene(t).Trace(admin.TraceQuery{ID: "x"}); err == nil || !strings.Contains(err.Error(), `"x" is no session`) {
		t.Error(err)
	}
}
