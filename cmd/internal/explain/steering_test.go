package explain

import (
	"fmt"
	"testing"

	"sluice/metrics"
)

func TestSteering(t *testing.T) {
	const hashed = "the kernel hashes the client's address and port with a secret: any of the 2"
	for _, c := range []struct {
		policy string
		next   int
		states []string
		text   string
	}{
		{"least", 1, []string{Ready, Ready}, "acceptor 1 is next: it has the fewest connections"},
		{"round_robin", 0, []string{Ready, Ready}, "acceptor 0 is next: it is its turn"},
		{"least", Nobody, []string{paused, paused}, "no acceptor takes connections, so the kernel's hash chooses"},
		{"least", Unknown, []string{Ready, Ready}, "the acceptor with the fewest connections"},
		{"round_robin", Unknown, []string{Ready, Ready}, "each acceptor in turn"},
		{"cpu", Unknown, []string{Ready, Ready}, "the acceptor of the CPU that gets the SYN"},
		{"hash", Unknown, []string{Ready, hung}, hashed},
		{"hash", Unknown, []string{Ready, leaving, Ready}, hashed},
		{"hand_off", Unknown, []string{Ready, Ready}, hashed + "; one that has too many passes it on to the one with the fewest"},
		{"shared", Unknown, []string{Ready, Ready}, "one queue, and the first of the 2 to wake; one that has too many passes it on to the one with the fewest"},
		{"hash", 0, []string{Ready}, "there is one acceptor"},
		{"shared", 0, []string{Ready, leaving}, "there is one acceptor"},
	} {
		v := &View{}
		s := &Steering{Policy: c.policy, Next: c.next}
		for i, state := range c.states {
			v.Acceptors, s.Loads = append(v.Acceptors, Acceptor{i, state}), append(s.Loads, int64(10+i))
		}
		e := v.steering(s)
		if e.Policy != c.policy || e.Text != c.text || len(e.Acceptors) != len(c.states) || (e.Next == nil) != (c.next < 0) || e.Next != nil && *e.Next != c.next {
			t.Errorf("%s, next %d, %q: %+v", c.policy, c.next, c.states, e)
		}
		for i, a := range e.Acceptors {
			if a.Number != i || a.State != c.states[i] || a.Load != int64(10+i) {
				t.Errorf("%s: acceptor %+v", c.policy, a)
			}
		}
	}
}

func TestStateOf(t *testing.T) {
	for _, c := range []struct {
		leaves               bool
		hung, accepting, has int64
		want                 string
	}{
		{true, 1, 0, 0, leaving}, {false, 1, 0, 0, hung}, {false, 0, 0, 0, paused}, {false, 0, 1, 4, behind}, {false, 0, 1, 5, Ready}, {false, 0, 1, 6, Ready},
	} {
		var cells metrics.AcceptorCells
		cells.Hung.Store(c.hung)
		cells.Accepting.Store(c.accepting)
		cells.Generation.Store(c.has)
		if got := StateOf(&cells, c.leaves, 5); got != c.want {
			t.Errorf("%s: %s", fmt.Sprintf("%+v", c), got)
		}
	}
}
