package proxy

import (
	"math"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// many gives the pool n targets, retries more tries, and a connect_timeout of 1 s.
func many(n, retries int) func(*Plan) {
	return func(p *Plan) {
		p.Pools[0].Retries, p.Pools[0].Targets = retries, nil
		for i := range n {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 80)
			p.Pools[0].Targets = append(p.Pools[0].Targets, targetAt(uint32(i), at))
		}
	}
}

// failure is what the board knows of the i-th target.
func (w *world) failure(i int) metrics.Failure { return w.a.Board.Failing()[i].Load() }

// probe is the one that is under way; nil = none.
func (w *world) probe() *probe {
	for i := range w.a.probes.runs {
		if r := &w.a.probes.runs[i]; r.id != 0 {
			return r
		}
	}
	return nil
}

// The first session goes over all that are dead, whatever the retries; those after it do
// not meet them.
func TestTheDeadAreMetOnce(t *testing.T) {
	for _, tc := range []struct {
		errno         syscall.Errno
		retries       int
		first, second int // connects
		reached       bool
	}{
		{syscall.ECONNREFUSED, 2, 8, 9, true},
		{syscall.ENETUNREACH, 2, 8, 9, true},
		{syscall.ENETUNREACH, 0, 8, 9, true}, // an unreachable family costs no retry
		{syscall.ECONNREFUSED, 0, 1, 2, false},
	} {
		w := newWorld(t, many(10, tc.retries))
		w.faults["connect"] = always(tc.errno)[:7]
		_, s := w.accept()
		if got := s.state == stateDialing; got != tc.reached || w.calls["connect"] != tc.first {
			t.Errorf("%v, retries %d: dialing %v after %d connects, want %v after %d", tc.errno, tc.retries, got, w.calls["connect"], tc.reached, tc.first)
		}
		w.faults["connect"] = nil
		w.queue++
		w.turn()
		if w.calls["connect"] != tc.second {
			t.Errorf("%v, retries %d: %d connects for two sessions, want %d", tc.errno, tc.retries, w.calls["connect"], tc.second)
		}
		w.settled()
	}
}

// When all are dead a session makes as many tries as its retries allow, and no more; the
// first one has found out about each, and has been bounded, too.
func TestAllDead(t *testing.T) {
	w := newWorld(t, many(200, 2))
	w.faults["connect"] = always(syscall.ECONNREFUSED)
	w.accept()
	if n := w.attempts(); n != maxSpared+1 {
		t.Errorf("%d tries for the first session, want %d", n, maxSpared+1)
	}
	w.accept()
	w.accept()
	before := w.attempts()
	w.accept()
	if n := w.attempts() - before; n != 3 {
		t.Errorf("%d tries for a later session, want 3", n)
	}
	w.settled()
}

// A target is probed when its time is over, each time after about twice as long, and a
// probe that succeeds ends it. No session is needed, nor counted.
func TestProbesBackOff(t *testing.T) {
	w := newWorld(t, many(1, 0))
	w.faults["connect"] = always(syscall.ECONNREFUSED)
	w.accept()
	var at []time.Duration
	begin := w.elapsed
	for n := w.calls["connect"]; len(at) < 8; {
		w.pass(10 * time.Millisecond)
		if now := w.calls["connect"]; now > n {
			n, at = now, append(at, w.elapsed-begin)
		}
	}
	for i, d := range at {
		was := time.Duration(0)
		if i > 0 {
			was = at[i-1]
		}
		want := min(firstTime<<i, longestTime)
		if got := (d - was).Seconds() / want.Seconds(); math.Abs(got-1) > timeJitter+0.25 {
			t.Errorf("probe %d came after %v, want about %v", i, d-was, want)
		}
	}
	if got := w.failure(0).Failures(); got != 9 {
		t.Errorf("%d failures are counted, want 9", got)
	}
	w.wantNotices(NoticeConnectFailed)
	w.faults["connect"] = nil
	for end := w.elapsed + 2*longestTime; w.probe() == nil && w.elapsed < end; {
		w.pass(10 * time.Millisecond)
	}
	w.turn(w.on(w.probe().fd, epollOut))
	if f := w.failure(0); f != 0 {
		t.Errorf("failure %#x after a probe that succeeded", f)
	}
	w.wantNotices(NoticeConnectRestored)
	w.settled()
}

// Whatever a probe ends with, its descriptor is given back and the target's state says it.
func TestProbeEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(w *world, r *probe)
		want int // failures after it
	}{
		{"established", func(w *world, r *probe) { w.turn(w.on(r.fd, epollOut)) }, 0},
		{"refused", func(w *world, r *probe) {
			w.faults["sockError"] = []syscall.Errno{syscall.ECONNREFUSED}
			w.turn(w.on(r.fd, epollErr|epollHup))
		}, 2},
		{"silent", func(w *world, r *probe) { w.pass(time.Second + probeRest) }, 2},
		{"itself", func(w *world, r *probe) { w.local = w.peer; w.turn(w.on(r.fd, epollOut)) }, 2},
		{"gone with a Plan", func(w *world, r *probe) {
			fd := r.fd
			next := w.plan.Renewed()
			next.Pools[0].Targets = next.Pools[0].Targets[1:]
			w.apply(next)
			w.turn(w.on(fd, epollOut))
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, many(2, 0))
			w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
			w.accept()
			w.pass(firstTime*5/4 + probeRest)
			r := w.probe()
			if r == nil {
				t.Fatal("it is not probed")
			}
			tc.end(w, r)
			if got := w.failure(0).Failures(); got != tc.want {
				t.Errorf("%d failures, want %d", got, tc.want)
			}
			if r.id != 0 || len(w.a.probes.free) != maxProbes {
				t.Errorf("the probe is still under way")
			}
			w.settled()
		})
	}
}

// A silent target is ranked last before its connect_timeout is over, and works again when
// it answers after all.
func TestUnansweredIsSuspect(t *testing.T) {
	for _, answers := range []bool{true, false} {
		w := newWorld(t, many(2, 0))
		_, s := w.accept()
		w.pass(suspectAfter + 3*tickLength)
		if f := w.failure(int(s.target)); f == 0 || f.Failures() != 0 || s.state != stateDialing {
			t.Fatalf("failure %#x in state %d", f, s.state)
		}
		w.wantNotices()
		if answers {
			w.turn(w.on(s.fd[backend], epollOut))
			if f := w.failure(int(s.target)); f != 0 || s.state != stateRelaying {
				t.Errorf("failure %#x in state %d after an answer", f, s.state)
			}
			w.wantNotices()
		} else {
			target := int(s.target)
			w.pass(time.Second)
			if f := w.failure(target); f.Failures() != 1 || f.Class() != metrics.ConnectTimeout {
				t.Errorf("failure %#x after connect_timeout", f)
			}
			w.wantNotices(NoticeConnectFailed)
		}
		w.settled()
	}
}

// The targets of a seat that has left, of a hung one, and of a process before this one
// are probed, and by one acceptor only.
func TestProbesAreTakenOver(t *testing.T) {
	w := newWorld(t, many(4, 0))
	for i, seat := range []int{0, 1, 2, 3} { // own, serving, leaving, none
		w.a.Board.Failing()[i].Swap(metrics.NewFailure(time.Hour, 1, seat, metrics.ConnectRefused))
	}
	w.a.bound.plan.Seats = []Seat{{Number: 0}, {Number: 1}, {Number: 2, Phase: PhaseLeaving}}
	w.a.takeOver(w.a.inherits)
	want := []int{0, 1, 0, 0}
	for i := range want {
		if got := w.failure(i).Seat(); got != want[i] {
			t.Errorf("target %d is probed by seat %d, want %d", i, got, want[i])
		}
	}
	w.a.rescue(1, &Sockets{Mail: -1})
	if got := w.failure(1).Seat(); got != 0 {
		t.Errorf("a hung acceptor's is probed by seat %d, want 0", got)
	}
	if len(w.a.probes.mine) != 4 {
		t.Errorf("%d are looked after, want 4", len(w.a.probes.mine))
	}
	w.settled()
}

// A word that no acceptor wrote is not believed: the target is probed soon.
func TestFailureOfANonsense(t *testing.T) {
	w := newWorld(t, many(2, 0))
	w.a.Board.Failing()[0].Swap(metrics.NewFailure(math.MaxInt64, 3, 0, metrics.ConnectRefused))
	w.a.takeOver(w.a.inherits)
	w.a.probes.due = 0
	before := w.calls["connect"]
	w.pass(2 * probeRest)
	if w.calls["connect"] != before+1 {
		t.Errorf("%d probes", w.calls["connect"]-before)
	}
	w.settled()
}

// One acceptor sees the failure, all of them rank the target last.
func TestFailureIsShared(t *testing.T) {
	s := start(t, func(o *setup) {
		o.acceptors, o.apart = 2, true
		o.pool().Retries = 1
		o.pool().Targets = []pool.Target{targetAt(1, netip.MustParseAddrPort("127.0.0.1:1")), o.pool().Targets[0]}
	})
	for range 3 {
		s.dialTo(0).Close()
		s.answered().Close()
	}
	for range 5 {
		s.dialTo(1).Close()
		s.answered().Close()
	}
	if n := s.board.Target(1, metrics.NewID(1, 1)).Attempts.Load(); n != 0 {
		t.Errorf("the other acceptor tried it %d times", n)
	}
}
