package proxy

import (
	"testing"

	"sluice/metrics"
)

// The sessions on a target that is down end, some in each turn, and no others. A pool that
// does not want that keeps them.
func TestSessionsOnTheDownAreCut(t *testing.T) {
	const sessions = 3 * sweepCuts
	w := newWorld(t, many(2, 0), func(p *Plan) { p.Pools[0].CutOnDown = true })
	establish := func() {
		for range sessions {
			w.queue++
			w.turn()
		}
		for slot := range w.a.slab.slots() {
			if s := w.a.slab.at(slot); s.state == stateDialing {
				w.turn(w.on(s.fd[client], epollOut), w.on(s.fd[backend], epollOut))
			}
		}
	}
	on := func(target uint16) (n int) {
		for slot := range w.a.slab.slots() {
			if s := w.a.slab.at(slot); s.state != stateFree && s.target == target {
				n++
			}
		}
		return n
	}
	establish()
	if on(0) != sessions/2 || on(1) != sessions/2 {
		t.Fatalf("%d and %d sessions", on(0), on(1))
	}
	w.pass(2 * downRest)
	w.a.Board.Cuts()[1].Store(1)
	turns, most := 0, 0
	for end := w.elapsed + 2*downRest; on(1) > 0 && w.elapsed < end; turns++ {
		before := on(1)
		w.elapsed += downRest / 10
		w.once()
		most = max(most, before-on(1))
	}
	if on(0) != sessions/2 || on(1) != 0 || most > sweepCuts {
		t.Errorf("%d and %d sessions after %d turns, which ended %d at most", on(0), on(1), turns, most)
	}
	if n := w.a.web().Closed[metrics.ReasonBackendDown].Load(); n != sessions/2 {
		t.Errorf("%d are counted", n)
	}
	w.settled()

	w = newWorld(t, many(2, 0))
	establish()
	w.a.Board.Cuts()[1].Store(1)
	w.pass(3 * downRest)
	if on(1) != sessions/2 {
		t.Errorf("%d sessions in a pool that keeps them", on(1))
	}
	if ms := w.a.untilDue(); ms >= 0 && ms < int(downRest.Milliseconds()) && w.a.downs.due == 0 {
		t.Errorf("it wakes after %d ms", ms)
	}
	w.settled()
}
