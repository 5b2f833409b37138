package host

import (
	"context"
	"time"
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

// EmptyQueues waits until no connection waits in the accept queues and none has come
// for a while, or until ctx ends. The sockets must have been quiesced: a new handshake
// would be lost with them. waiting is how many stand in the queues, accepted how
// many have been accepted so far.
func EmptyQueues(ctx context.Context, waiting func() int, accepted func() uint64) {
	start := time.Now()
	last, since := accepted(), start
	WaitFor(ctx, func() bool {
		now, empty := time.Now(), waiting() == 0
		if n := accepted(); n != last || !empty {
			last, since = n, now
		}
		return empty && (now.Sub(since) >= quietFor || now.Sub(start) >= quietAtMost)
	})
}

// WaitFor waits until done, and says false if ctx ended first.
func WaitFor(ctx context.Context, done func() bool) bool {
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return done()
		}
	}
	return true
}
