package proxy

import (
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// withQueue gives both targets one place, and the pool a queue of two.
func withQueue(p *Plan) {
	q := &p.Pools[0]
	q.Queue, q.QueueTimeout = 2, 2*time.Second
	for i := range q.Targets {
		q.Targets[i].MaxSessions = 1
	}
}

// newQueueWorld is one in which both places are taken by another acceptor.
func newQueueWorld(t *testing.T) *world {
	w := newWorld(t, withQueue)
	for _, target := range w.plan.Pools[0].Targets {
		w.a.Board.Limits()[target.ID.Index()].Store(int64(metrics.NewLimit(1, appID)))
	}
	w.take(0, 1)
	w.take(1, 1)
	return w
}

// take lets another acceptor hold n more of a target, without a word.
func (w *world) take(target int, n int64) {
	w.a.Board.Held()[w.plan.Pools[0].Targets[target].ID.Index()].Add(n)
}

func (w *world) wantQueue(waits int64, ends map[metrics.QueueEnd]uint64) {
	w.t.Helper()
	c := w.a.Board.Pool(0, appID)
	if n := c.Queued.Load(); n != waits {
		w.t.Errorf("%d are in the queue, want %d", n, waits)
	}
	for end := range metrics.NumQueueEnds {
		if n := c.QueueEnds[end].Load(); n != ends[end] {
			w.t.Errorf("%d waits ended as %d, want %d", n, end, ends[end])
		}
	}
}

// A place that comes free without a word is found all the same, and the first one gets it.
func TestQueueNeedsNoLetter(t *testing.T) {
	w := newQueueWorld(t)
	w.accept()
	w.accept()
	first, second := w.a.slab.at(0), w.a.slab.at(1)
	w.pass(time.Second)
	if first.state != stateWaiting || second.state != stateWaiting || w.calls["connect"] != 0 {
		t.Fatalf("states %d, %d, %d connects; ended %q", first.state, second.state, w.calls["connect"], w.ended())
	}
	w.wantQueue(2, nil)
	w.take(1, -1)
	w.pass(latePark)
	if first.state != stateDialing || second.state != stateWaiting || first.target != 1 {
		t.Errorf("states %d, %d, target %d", first.state, second.state, first.target)
	}
	w.wantQueue(1, map[metrics.QueueEnd]uint64{metrics.QueueServed: 1})
	// The first one's place goes to the second in the turn in which it ends.
	w.turn(w.on(first.fd[client], gone))
	w.turn()
	if second.state != stateDialing {
		t.Errorf("state %d, want dialing", second.state)
	}
	w.wantQueue(0, map[metrics.QueueEnd]uint64{metrics.QueueServed: 2})
	w.take(0, -1)
	w.settled()
}

// The wait ends with its time, the queue takes no more than it may, and a later
// session does not go before those that wait.
func TestQueueEnds(t *testing.T) {
	w := newQueueWorld(t)
	w.accept()
	w.accept()
	w.accept()
	if reason := w.ended(); reason != "queue_full" {
		t.Errorf("the third of two ended as %q", reason)
	}
	w.wantQueue(2, map[metrics.QueueEnd]uint64{metrics.QueueFull: 1})
	w.pass(2*time.Second + latePark)
	if n := w.a.web().Closed[metrics.ReasonQueueTimeout].Load(); n != 2 {
		t.Errorf("%d waits were too long, want 2", n)
	}
	w.wantQueue(0, map[metrics.QueueEnd]uint64{metrics.QueueFull: 1, metrics.QueueTimeout: 2})
	w.take(0, -1)
	w.take(1, -1)
	w.settled()
}

// A session that waits for a place goes on to others when a Plan takes the limits away.
func TestQueueIsTakenAway(t *testing.T) {
	w := newQueueWorld(t)
	_, s := w.accept()
	next := w.plan.Pools[0]
	next.Queue = 0
	next.Targets = append(next.Targets[:0:0], next.Targets...)
	for i := range next.Targets {
		next.Targets[i].MaxSessions = 0
		w.a.Board.Limits()[next.Targets[i].ID.Index()].Store(0)
	}
	p := w.plan.Renewed()
	p.Pools[0] = next
	w.apply(p)
	w.pass(latePark)
	if s.state != stateDialing {
		t.Errorf("state %d, want dialing", s.state)
	}
	w.wantQueue(0, map[metrics.QueueEnd]uint64{metrics.QueueLeft: 1})
	w.take(0, -1)
	w.take(1, -1)
	w.settled()
}

// A place that a try has taken and that fails is free again, and a session that goes on to
// its next target does not line up anew.
func TestFailedTryGivesItsPlaceBack(t *testing.T) {
	w := newQueueWorld(t)
	w.take(0, -1)
	w.take(1, -1)
	w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
	_, s := w.accept()
	if s.state != stateDialing {
		t.Fatalf("state %d, ended %q", s.state, w.ended())
	}
	var held int64
	for _, target := range w.plan.Pools[0].Targets {
		held += w.a.Board.Held()[target.ID.Index()].Load()
	}
	if held != 1 || w.a.cells.Moving.Load() != 0 {
		t.Errorf("%d places are held, moving %d", held, w.a.cells.Moving.Load())
	}
	w.wantQueue(0, nil)
	w.settled()
}
