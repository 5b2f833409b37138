package steering

import (
	"fmt"
	"testing"
)

var programs = []Policy{Least, RoundRobin}

func TestHeldConnectionsAreSpreadExactly(t *testing.T) {
	needBPF(t)
	needIPv6(t)
	for _, way := range []struct{ name, bind, host string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "[::1]:0", "::1"},
		{"both, by IPv4", "[::]:0", "127.0.0.1"},
		{"both, by IPv6", "[::]:0", "::1"},
	} {
		for _, policy := range programs {
			for _, n := range []int{16, 64, 256} {
				t.Run(fmt.Sprint(way.name, " ", policy, " ", n), func(t *testing.T) {
					s := start(t, way.bind, 4, policy)
					s.dial(way.host, n, true)
					if held := s.held(int64(n)); spread(held) > 1 {
						t.Errorf("held %v", held)
					}
				})
			}
		}
	}
}

// Turns begin where they are told to, go on from there, and stay exact.
func TestTurnsBeginAtFirst(t *testing.T) {
	needBPF(t)
	for _, policy := range programs {
		for first := range 6 {
			t.Run(fmt.Sprint(policy, " ", first), func(t *testing.T) {
				s := start(t, "127.0.0.1:0", 4, Hash)
				s.steering = Attach(Options{Sockets: socketsOf(s.group), Order: s.group.Order, Rows: s.rows, Policy: policy, First: first})
				for n := range int64(4) {
					s.dial("127.0.0.1", 1, false)
					if held := s.held(n + 1); held[(first+int(n))%4] != 1 {
						t.Fatalf("connection %d: held %v", n, held)
					}
				}
				s.dial("127.0.0.1", 62, false)
				if held := s.held(66); spread(held) > 1 {
					t.Errorf("held %v", held)
				}
			})
		}
	}
}

// SYNs that arrive faster than they are accepted must not all go to the one
// that was the least loaded when the first came.
func TestBurstDoesNotHerd(t *testing.T) {
	needBPF(t)
	for _, policy := range programs {
		t.Run(policy.String(), func(t *testing.T) {
			s := start(t, "127.0.0.1:0", 4, policy)
			for _, a := range s.acceptors {
				a.halt() // it is not said to hang
			}
			s.dial("127.0.0.1", 100, true)
			for _, a := range s.acceptors {
				a.start()
			}
			if held := s.held(100); spread(held) > 1 {
				t.Errorf("held %v", held)
			}
		})
	}
}

func TestLeastLevelsALongLivedSkew(t *testing.T) {
	needBPF(t)
	for _, parallel := range []bool{false, true} {
		t.Run(fmt.Sprint("parallel ", parallel), func(t *testing.T) {
			s := start(t, "127.0.0.1:0", 4, Least)
			s.onlyTo(0)
			s.dial("127.0.0.1", 100, parallel)
			if held := s.held(100); held[0] != 100 {
				t.Fatalf("held %v, want all by acceptor 0", held)
			}
			s.onlyTo(-1)
			s.dial("127.0.0.1", 300, parallel)
			if held := s.held(400); spread(held) > 1 {
				t.Errorf("held %v", held)
			}
		})
	}
}

// Those that are passed over get nothing and the others share evenly. One that
// comes back is levelled up by least, and by round_robin has its turn like all.
func TestPassedOver(t *testing.T) {
	needBPF(t)
	for _, way := range []struct {
		name       string
		pass, back func(*Rows, *acceptor)
	}{
		{"draining", func(r *Rows, _ *acceptor) { r.SetDraining(1, true) }, func(r *Rows, _ *acceptor) { r.SetDraining(1, false) }},
		{"closed", func(_ *Rows, a *acceptor) { a.seat.Open(false) }, func(_ *Rows, a *acceptor) { a.seat.Open(true) }},
		{"hung", func(r *Rows, a *acceptor) { a.halt(); r.SetHung(1, true) }, func(r *Rows, a *acceptor) { a.start(); r.SetHung(1, false) }},
		{"dead", func(r *Rows, a *acceptor) { a.halt(); r.GiveBack(1) }, func(_ *Rows, a *acceptor) { a.start() }},
	} {
		for _, policy := range programs {
			t.Run(way.name+" "+policy.String(), func(t *testing.T) {
				s := start(t, "127.0.0.1:0", 4, policy)
				way.pass(s.rows, s.acceptors[1])
				s.dial("127.0.0.1", 120, true)
				before := s.held(120)
				if before[1] != 0 || spread([]int64{before[0], before[2], before[3]}) > 1 {
					t.Errorf("held %v while acceptor 1 was %s", before, way.name)
				}
				way.back(s.rows, s.acceptors[1])
				s.dial("127.0.0.1", 40, true)
				after := s.held(160)
				if policy == Least && spread(after) > 1 {
					t.Errorf("held %v after it came back", after)
				}
				for i := range after {
					after[i] -= before[i]
				}
				if policy == RoundRobin && spread(after) > 2 { // its turn in the round that was on, and rounds begun and not ended
					t.Errorf("got %v after it came back", after)
				}
			})
		}
	}
}

// With all of them passed over, the kernel's hash serves.
func TestAllPassedOver(t *testing.T) {
	needBPF(t)
	s := start(t, "127.0.0.1:0", 4, Least)
	for i := range s.acceptors {
		s.rows.SetHung(i, true)
	}
	s.dial("127.0.0.1", 20, true)
	s.held(20)
	for i, a := range s.acceptors {
		if n := a.row.Selected.Load(); n != 0 {
			t.Errorf("acceptor %d was picked %d times", i, n)
		}
	}
	// What the hash gave counts for nothing in flight: a few picks later all is level.
	for i := range s.acceptors {
		s.rows.SetHung(i, false)
	}
	s.dial("127.0.0.1", 60, false)
	if held := s.held(80); spread(held) > 1 {
		t.Errorf("held %v", held)
	}
}
