package proxy

import (
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// ejecting gives the pool n targets that are ejected after two early closes in a row.
func ejecting(n int, share float64) func(*Plan) {
	return func(p *Plan) {
		many(n, 2)(p)
		p.Pools[0].Ejection = pool.Ejection{Early: time.Second, EarlyCloses: 2, MaxShare: share, Time: time.Second, MaxTime: 3 * time.Second}
	}
}

// session brings one to the only target that takes it, and says how it ends.
func (w *world) session(after time.Duration, end func(s *session, c, b *fakeFD)) {
	w.t.Helper()
	s, fds := w.relaying()
	w.pass(after)
	end(s, fds[client], fds[backend])
	if s.state != stateFree {
		w.t.Fatalf("it goes on, in state %d", s.state)
	}
}

func (w *world) reset(s *session, _, b *fakeFD) {
	b.err = syscall.ECONNRESET
	w.turn(w.on(s.fd[backend], epollErr|epollHup|epollIn))
}

func (w *world) closes(s *session, c, b *fakeFD) {
	b.eof = true
	w.turn(w.on(s.fd[backend], epollIn|epollRdhup))
	c.eof = true
	w.turn(w.on(s.fd[client], epollIn|epollRdhup))
}

func (w *world) answersAndResets(s *session, c, b *fakeFD) {
	b.in = []byte("503")
	w.turn(w.on(s.fd[backend], epollIn))
	w.reset(s, c, b)
}

func (w *world) clientLeaves(s *session, c, b *fakeFD) {
	c.eof = true
	w.turn(w.on(s.fd[client], epollIn|epollRdhup))
	w.reset(s, c, b)
}

// Which ends of a session speak against its target, and which for it.
func TestEarlyCloses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		after   time.Duration
		end     func(*world, *session, *fakeFD, *fakeFD)
		strikes uint8 // after one such session, with one strike before it
	}{
		{"reset", 0, (*world).reset, 2},
		{"reset in time", 900 * time.Millisecond, (*world).reset, 2},
		{"reset late", 1100 * time.Millisecond, (*world).reset, 0},
		{"closed", 0, (*world).closes, 2},
		{"answered and reset", 0, (*world).answersAndResets, 0},
		{"the client closes, then it is reset", 0, (*world).clientLeaves, 2},
		{"the client breaks off", 0, func(w *world, s *session, c, _ *fakeFD) {
			c.err = syscall.ECONNRESET
			w.turn(w.on(s.fd[client], epollErr|epollHup|epollIn))
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, ejecting(1, 0.5)) // no room: it is never ejected
			w.a.Board.Strikes()[0].Change(func(s *metrics.Strike) { s.Closes = 1 })
			w.session(tc.after, func(s *session, c, b *fakeFD) { tc.end(w, s, c, b) })
			if got := w.a.Board.Strikes()[0].Load().Closes; got != tc.strikes {
				t.Errorf("%d strikes, want %d", got, tc.strikes)
			}
			if f := w.failure(0); f != 0 {
				t.Errorf("it is ejected: %#x", f)
			}
			w.settled()
		})
	}
}

// Ejections grow while each one after the first needs one early close only, up to the
// longest; a word of the target ends that.
func TestEjectionsGrow(t *testing.T) {
	w := newWorld(t, ejecting(1, 1))
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		if i == 0 {
			w.session(0, w.reset)
		}
		begin := w.elapsed
		w.session(0, w.reset)
		if f := w.failure(0); f.Word() != "early_close" || f.Failures() != i+1 {
			t.Fatalf("ejection %d: %s, %d in a row", i, f.Word(), f.Failures())
		}
		w.wantNotices(NoticeEjected)
		for w.probe() == nil && w.elapsed-begin < 10*time.Second {
			w.pass(10 * time.Millisecond)
		}
		if took := w.elapsed - begin; took < want-50*time.Millisecond || took > want+300*time.Millisecond {
			t.Errorf("ejection %d took %v, want %v", i, took, want)
		}
		w.turn(w.on(w.probe().fd, epollOut))
		if f := w.failure(0); f != 0 {
			t.Fatalf("ejection %d goes on: %#x", i, f)
		}
		w.wantNotices(NoticeConnectRestored)
	}
	if n := w.a.Board.Target(0, metrics.NewID(0, 1)).Ejected[metrics.EjectEarlyClose].Load(); n != 4 {
		t.Errorf("%d ejections are counted", n)
	}
	w.session(0, w.answersAndResets)
	if got := w.a.Board.Strikes()[0].Load(); got != (metrics.Strike{}) {
		t.Errorf("%+v is held against it", got)
	}
	w.settled()
}

// A connection says nothing of a target that closes what it takes: it stays ejected.
func TestEjectedIsNotRestoredByASession(t *testing.T) {
	w := newWorld(t, ejecting(1, 1))
	w.session(0, w.reset)
	w.session(0, w.reset)
	w.session(0, w.reset) // no other is there
	if f := w.failure(0); f.Word() != "early_close" || f.Failures() != 1 {
		t.Errorf("%s, %d in a row", f.Word(), f.Failures())
	}
	w.settled()
}

// No more than the share of a tier may be out, with what is down for other reasons.
func TestEjectionIsCapped(t *testing.T) {
	for _, tc := range []struct {
		share         float64
		failing, down int
		want          bool
	}{
		{0.5, 0, 0, true}, {0.5, 1, 0, true}, {0.5, 2, 0, false}, {0.5, 1, 1, false}, {0.5, 0, 2, false}, {0.24, 0, 0, false}, {0.25, 0, 0, true}, {0, 0, 0, false}, {1, 3, 0, true},
		{1 - 0.75, 0, 0, true}, // panic_below = 0.75
	} {
		w := newWorld(t, ejecting(4, tc.share), func(p *Plan) {
			for i := range 2 {
				backup := targetAt(uint32(4+i), p.Pools[0].Targets[0].Addr)
				backup.Backup = true
				p.Pools[0].Targets = append(p.Pools[0].Targets, backup)
			}
		})
		for i := range tc.failing {
			w.a.Board.Failing()[i+1].Swap(metrics.NewFailure(time.Hour, 1, 9, metrics.ConnectRefused))
		}
		for i := range tc.down {
			w.a.Board.Weights()[3-i].Store(0)
		}
		p := w.a.bound.listeners[0].pool
		w.a.strike(p, 0)
		w.a.strike(p, 0)
		if got := w.failure(0) != 0; got != tc.want {
			t.Errorf("share %v, %d failing, %d down: ejected %v", tc.share, tc.failing, tc.down, got)
		}
		if capped := p.cells.Capped.Load() == 1; capped == tc.want {
			t.Errorf("share %v: capped %v", tc.share, capped)
		}
		w.settled()
	}
}

// A Plan may take a target away while sessions are on it.
func TestEarlyCloseOfATargetThatHasLeft(t *testing.T) {
	w := newWorld(t, ejecting(2, 1))
	s, fds := w.relaying()
	w.a.Board.Strikes()[s.target].Change(func(s *metrics.Strike) { s.Closes = 1 })
	next := w.plan.Renewed()
	next.Pools[0].Targets = next.Pools[0].Targets[1-s.target:][:1]
	target := int(s.target)
	w.apply(next)
	w.reset(s, fds[client], fds[backend])
	if f := w.failure(target); f != 0 {
		t.Errorf("it is ejected: %#x", f)
	}
	w.settled()
}

// With connect_failures = 3 two refusals in a row are forgiven, and one success forgets them.
func TestConnectFailuresInARow(t *testing.T) {
	w := newWorld(t, many(1, 0), func(p *Plan) { p.Pools[0].Ejection.ConnectFailures = 3 })
	refuse := func() {
		w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
		w.accept()
	}
	refuse()
	refuse()
	w.session(0, w.answersAndResets)
	refuse()
	refuse()
	if f := w.failure(0); f != 0 {
		t.Fatalf("%#x after two", f)
	}
	w.wantNotices()
	refuse()
	if f := w.failure(0); f.Failures() != 1 || f.Class() != metrics.ConnectRefused {
		t.Errorf("%#x after three", f)
	}
	w.wantNotices(NoticeConnectFailed)
	if n := w.a.Board.Target(0, metrics.NewID(0, 1)).Ejected[metrics.EjectConnect].Load(); n != 1 {
		t.Errorf("%d ejections are counted", n)
	}
	w.settled()
}

// Of sessions on their way to a silent target one waits for the answer. The others go to
// another, once each, and at no cost to their retries.
func TestOneWaitsForASilentTarget(t *testing.T) {
	w := newWorld(t, many(2, 0))
	w.queue = 6
	w.turn()
	w.turn()
	at := map[uint16]int{}
	for slot := range w.a.slab.slots() {
		if s := w.a.slab.at(slot); s.state == stateDialing && s.target == 1 {
			w.turn(w.on(s.fd[backend], epollOut)) // this one answers
		}
	}
	w.pass(suspectAfter + 3*tickLength)
	for slot := range w.a.slab.slots() {
		if s := w.a.slab.at(slot); s.state == stateDialing {
			at[s.target]++
		}
	}
	if at[0] != 1 || at[1] != 2 {
		t.Errorf("%v sessions wait by target, want 1 of the silent one and 2 of the other", at)
	}
	w.settled()
}
