package explain

import (
	"fmt"
	"slices"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/pool"
)

// outcome says what comes of it.
func (x *explaining) outcome(l *proxy.Listener, seen proxy.Foreseen) {
	queued, waits := x.queue()
	switch {
	case seen.Turned:
		x.Outcome, x.Reason = admin.OutcomeRefused, seen.Reject.String()
		x.Text = refusal(x.Entrance, seen)
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
		x.Text = x.destination()
	}
	if seen.Wait > 0 && !seen.Turned && !seen.Barred {
		x.Text += fmt.Sprintf(", after a delay of %s for the rate", seen.Wait.Round(time.Millisecond))
	}
}

// queue is how many stand in the pool's queue, and whether a newcomer must wait behind them.
func (x *explaining) queue() (queued int64, waits bool) {
	if x.more.Queue == 0 || x.pool.Queue == 0 {
		return 0, false
	}
	for _, seat := range x.Plan.Seats {
		queued += x.Service.Pool(seat.Number, x.more.Queue).Queued.Load()
	}
	return queued, !x.Service.PoolQueue(x.more.Queue).Empty() && slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool { return t.MaxSessions > 0 })
}

func refusal(e *admin.Entrance, seen proxy.Foreseen) string {
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

// destination says what is known of the backend, and no more.
func (x *explaining) destination() string {
	switch {
	case x.Exact:
		return fmt.Sprintf("goes to %s, whichever acceptor takes it", x.Tries[0])
	case x.draws():
		return "goes to the better of two backends that are drawn at random, by weight"
	case len(x.Tries) > 0 && x.Steering.Next != nil:
		return fmt.Sprintf("goes to acceptor %d and from there to %s, if nobody comes before it", *x.Steering.Next, x.Tries[0])
	case len(x.Tries) > 0:
		return fmt.Sprintf("goes to %s, if nobody comes before it", x.Tries[0])
	case x.Ask == nil:
		return "goes to one of the backends, as their turns come"
	}
	return "goes to the backend whose turn it is at the acceptor that takes it"
}
