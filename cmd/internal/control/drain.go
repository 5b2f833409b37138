package control

import (
	"log/slog"
	"os"
	"time"

	"sluice/listener"
	"sluice/metrics"
)

const (
	// quietFor is how long no connection may come before the accept queues count as
	// empty for good: a handshake that was under way at the start has a round trip's
	// time to end.
	quietFor = 200 * time.Millisecond
	// quietAtMost bounds that against clients that keep a handshake open.
	quietAtMost = 2 * time.Second
	// drainStep is how often a drain looks.
	drainStep = 10 * time.Millisecond
)

// drainage ends a host's service, losing nothing that it could have served:
//
//	no new handshakes ─► queues empty ─► stop accepting, close sockets ─► sessions end ─► close
//	                                                                         └ deadline: cut
//
// The supervisor drains a whole service, an orphaned worker its own part.
type drainage struct {
	host     host
	groups   []*listener.Group
	close    func() // of the groups
	timeout  time.Duration
	signals  <-chan os.Signal // one more ends it at once; nil = none comes
	sessions func() int64     // still running
	accepted func() uint64    // so far
	log      *slog.Logger

	hurried bool // a signal came: nothing is waited for any more
}

// run returns whether all sessions ended by themselves. The groups are closed then.
func (d *drainage) run() (clean bool) {
	deadline := time.Now().Add(d.timeout)
	d.emptyQueues(deadline)
	d.host.stopAccepting()
	d.close()
	clean = d.waitFor(deadline, func() bool { return d.sessions() == 0 })
	if !clean {
		d.log.Warn("cutting sessions that are still running", "sessions", d.sessions(), "reason", metrics.ReasonDrainDeadline.String())
		d.host.cut(metrics.ReasonDrainDeadline)
	}
	d.host.close()
	d.log.Info("stopped", "clean", clean)
	return clean
}

// emptyQueues lets no new handshake begin and waits until those under way have been
// accepted.
func (d *drainage) emptyQueues(deadline time.Time) {
	d.host.leave()
	for _, g := range d.groups {
		for i := range g.Len() {
			if err := listener.Quiesce(g.FD(i)); err != nil {
				d.log.Warn("new handshakes can't be held off while draining", "error", err)
			}
		}
	}
	start := time.Now()
	accepted, since := d.accepted(), start
	d.waitFor(deadline, func() bool {
		now, empty := time.Now(), waiting(d.groups) == 0
		if n := d.accepted(); n != accepted || !empty {
			accepted, since = n, now
		}
		return empty && (now.Sub(since) >= quietFor || now.Sub(start) >= quietAtMost)
	})
}

// waitFor waits until done, and says false if the deadline or a signal came first.
func (d *drainage) waitFor(deadline time.Time, done func() bool) bool {
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for !done() {
		if d.hurried {
			return false
		}
		select {
		case <-tick.C:
			if time.Now().After(deadline) {
				return done()
			}
		case <-d.signals:
			d.hurried = true
		}
	}
	return true
}

// waiting is how many connections stand in the accept queues.
func waiting(groups []*listener.Group) (n int) {
	for _, g := range groups {
		for i := range g.Len() {
			if q, err := listener.QueueOf(g.FD(i)); err == nil {
				n += q.Length
			}
		}
	}
	return n
}
