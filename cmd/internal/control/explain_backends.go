package control

import (
	"fmt"
	"slices"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// The states of a backend that an explanation knows beside those of its health.
const (
	stateFailing = "failing" // it does not take connections: ranked last
	stateFull    = "full"    // it has max_sessions
)

// backends lists the candidates: those that would be tried first, then the others as configured.
func (x *explaining) backends(c config.Pool) {
	x.Backends = []admin.ExplainedBackend{}
	var others []admin.ExplainedBackend
	for i := range x.pool.Targets {
		if b := x.backend(i); slices.Contains(x.Tries, b.Address) {
			x.Backends = append(x.Backends, b)
		} else {
			others = append(others, b)
		}
	}
	slices.SortStableFunc(x.Backends, func(a, b admin.ExplainedBackend) int {
		return slices.Index(x.Tries, a.Address) - slices.Index(x.Tries, b.Address)
	})
	n := max(admin.MaxExplainedBackends-len(x.Backends), 0)
	x.Entrance.More = max(len(others)-n, 0)
	x.Backends = append(x.Backends, others[:len(others)-x.Entrance.More]...)
	for _, b := range c.Backends {
		if !slices.ContainsFunc(x.pool.Targets, func(t pool.Target) bool { return t.Backend == b.Address }) {
			x.Notes = append(x.Notes, fmt.Sprintf("backend %s has no address now", b.Address))
		}
	}
}

func (x *explaining) backend(i int) admin.ExplainedBackend {
	t, board := &x.pool.Targets[i], x.board
	cell := t.ID.Index()
	h := x.health[t.ID]
	b := admin.ExplainedBackend{
		Backend: t.Backend, Address: x.address(i), State: string(h.State), Weight: float64(board.Weights()[cell].Load()) / pool.WeightScale,
		Sessions: board.Held()[cell].Load(), Most: int64(t.MaxSessions), Backup: t.Backup,
	}
	switch f := board.Failing()[cell].Load(); {
	case h.Operator != nil:
		b.Why = fmt.Sprintf("%s by %s", h.Operator.Want, h.Operator.Who)
		if h.Operator.Reason != "" {
			b.Why += ": " + h.Operator.Reason
		}
	case h.State == "":
		b.State, b.Why = string(metrics.TargetUp), "new"
	case h.State == metrics.TargetDown && h.Check != nil:
		b.Why = fmt.Sprintf("checks say so since %s ago: %s", time.Since(h.Since).Round(100*time.Millisecond), orNone(h.Check.Error))
	case f != 0:
		b.State, b.Why = stateFailing, "ranked last: "+f.Word()
		if left := f.Until() - time.Duration(monotonic()); left > 0 {
			b.Why += fmt.Sprintf("; probed in %s", left.Round(100*time.Millisecond))
		}
	case b.Most > 0 && b.Sessions >= b.Most:
		b.State, b.Why = stateFull, fmt.Sprintf("it has its %d sessions", b.Most)
	case h.State == metrics.TargetWarming:
		b.Why = "its share still grows"
	case t.Backup:
		b.Why = "used when no other may be, or all fail"
	}
	return b
}

// The states of an acceptor in an explanation.
const (
	stateReady   = "ready"
	stateHung    = "hung"    // it does not turn
	stateLeaving = "leaving" // nothing new goes there
	statePaused  = "paused"  // it accepts nothing for now
	stateBehind  = "behind"  // it does not run the Plan in force yet
	stateSilent  = "silent"  // it was asked and did not answer
)

// steeringAt says which acceptor takes the next connection of a front, as far as anybody
// can know.
func (s *service) steeringAt(inForce *state, f *front) admin.ExplainedSteering {
	s.mu.Lock() // whoever closes the rows of a front holds it, and takes the front away before
	defer s.mu.Unlock()
	if s.state.find(f.id) == nil {
		return admin.ExplainedSteering{Text: "the listener has left meanwhile", Acceptors: []admin.ExplainedAcceptor{}}
	}
	shown := f.steered.shown()
	e := admin.ExplainedSteering{Policy: shown.Effective, Acceptors: []admin.ExplainedAcceptor{}}
	byRows := f.choice.picked || f.choice.handOff
	for _, st := range inForce.seats {
		a := admin.ExplainedAcceptor{Number: st.number, State: s.stateOfSeat(inForce, st), Load: s.board.Listener(st.number, f.id).Active.Load()}
		if byRows {
			a.Load = f.steered.rows.Load(st.number)
		}
		e.Acceptors = append(e.Acceptors, a)
	}
	serving := inForce.seats.serving()
	switch shown.Effective {
	case steering.Least.String(), steering.RoundRobin.String():
		policy, _ := steering.ParsePolicy(shown.Effective)
		if next, ok := f.steered.rows.Foresee(policy, serving); ok {
			e.Next, e.Text = &next, fmt.Sprintf(nextWords[shown.Effective], next)
			return e
		}
		e.Text = "no acceptor takes connections, so the kernel's hash chooses"
		return e
	}
	e.Text = steeringWords(shown.Effective, len(serving))
	if len(serving) == 1 {
		e.Next = &serving[0]
	}
	return e
}

var nextWords = map[string]string{
	steering.Least.String():      "acceptor %d is next: it has the fewest connections",
	steering.RoundRobin.String(): "acceptor %d is next: it is its turn",
}

// steeringWords say how acceptors are chosen where it can't be known before.
func steeringWords(policy string, seats int) string {
	switch {
	case seats == 1:
		return "there is one acceptor"
	case policy == effectiveHandOff:
		return fmt.Sprintf("the kernel hashes the client's address and port with a secret: any of the %d; who has too many passes it on to the one with the fewest", seats)
	case policy == effectiveShared:
		return fmt.Sprintf("one queue, and whoever of the %d wakes first; who has too many passes it on to the one with the fewest", seats)
	case policy == steering.CPU.String():
		return "the acceptor of the CPU that gets the SYN"
	case policy == steering.Least.String():
		return "the acceptor with the fewest connections"
	case policy == steering.RoundRobin.String():
		return "each acceptor in turn"
	}
	return fmt.Sprintf("the kernel hashes the client's address and port with a secret: any of the %d", seats)
}

func (s *service) stateOfSeat(inForce *state, st *seat) string {
	c := s.board.Acceptor(st.number)
	switch {
	case st.leaving != nil:
		return stateLeaving
	case c.Hung.Load() != 0:
		return stateHung
	case c.Accepting.Load() == 0:
		return statePaused
	case uint64(c.Generation.Load()) < inForce.generation:
		return stateBehind
	}
	return stateReady
}
