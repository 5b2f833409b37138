package sessions

import (
	"slices"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/metrics"
	"sluice/metrics/journal"
)

var stepNames = map[journal.Kind]string{
	journal.KindAccepted: "accepted", journal.KindWaits: "waits", journal.KindDialed: "dials", journal.KindDialFailed: "dial_failed",
	journal.KindConnected: "connected", journal.KindClosed: "closed", journal.KindRejected: "rejected",
}

// stepsOf are the steps of a story. Where steps were not recorded or are forgotten, the last
// record still knows: when it was accepted, and its last connect.
func stepsOf(story accesslog.Story) (steps []admin.TracedStep) {
	has := map[journal.Kind]bool{}
	for i := range story.Records {
		r := &story.Records[i]
		has[r.Kind] = true
		steps = append(steps, stepOf(r))
	}
	last := story.Records[len(story.Records)-1]
	if last.Kind == journal.KindRejected {
		return steps
	}
	add := func(kind journal.Kind, at int64) {
		if !has[kind] && at != 0 {
			made := last
			made.Kind, made.Time = kind, last.Opened.Add(time.Duration(at-last.Record.Opened))
			steps = append(steps, stepOf(&made))
		}
	}
	add(journal.KindAccepted, last.Record.Opened)
	add(journal.KindDialed, last.Dialed)
	add(journal.KindConnected, last.Connected)
	slices.SortStableFunc(steps, func(a, b admin.TracedStep) int { return a.Time.Compare(b.Time) })
	return steps
}

func stepOf(r *accesslog.Told) admin.TracedStep {
	s := admin.TracedStep{Time: r.Time, Step: stepNames[r.Kind]}
	switch r.Kind {
	case journal.KindDialed, journal.KindDialFailed, journal.KindConnected:
		s.Pool, s.Backend, s.Address = r.Target.Pool, r.Target.Backend, r.Target.Addr
	}
	switch r.Kind {
	case journal.KindDialFailed:
		s.Reason, s.Took = r.Class.String(), time.Duration(r.At-r.Dialed).Seconds()
	case journal.KindConnected:
		s.Took = r.Connect().Seconds()
	case journal.KindRejected:
		s.Reason = r.Reject.String()
	case journal.KindClosed:
		s.Reason = r.Reason.String()
		if r.Flags&journal.Partial == 0 {
			s.In, s.Out = r.Received, r.Sent
			if s.In+s.Out > 0 {
				s.Path = metrics.PathCopy.String()
				if r.Flags&journal.Spliced != 0 {
					s.Path = metrics.PathSplice.String()
				}
			}
		}
	}
	return s
}
