package explain

import (
	"fmt"

	"sluice/cmd/internal/admin"
	"sluice/listener/steering"
	"sluice/metrics"
)

// Acceptor is one that has sockets of the listeners.
type Acceptor struct {
	Number int
	State  string // Ready, or why it takes nothing
}

// The states of an acceptor.
const (
	Ready   = "ready"
	hung    = "hung"    // it does not turn
	leaving = "leaving" // nothing new goes there
	paused  = "paused"  // it accepts nothing for now
	behind  = "behind"  // it does not run the Plan in force yet
	silent  = "silent"  // it was asked and did not answer
)

// StateOf is the state of an acceptor with these cells; leaves says that the Plan with this
// generation lets it leave.
func StateOf(c *metrics.AcceptorCells, leaves bool, generation uint64) string {
	switch {
	case leaves:
		return leaving
	case c.Hung.Load() != 0:
		return hung
	case c.Accepting.Load() == 0:
		return paused
	case uint64(c.Generation.Load()) < generation:
		return behind
	}
	return Ready
}

// Steering says which acceptor takes the next connection of a listener, as far as that can be
// known.
type Steering struct {
	Policy string  // in force, as metrics call it
	Next   int     // the acceptor; or Unknown, or Nobody
	Loads  []int64 // of each of View.Acceptors: connections that it holds or is about to get
}

// What Next may be besides the number of an acceptor.
const (
	Unknown = -1
	Nobody  = -2 // none takes connections
)

func (v *View) steering(s *Steering) admin.ExplainedSteering {
	e := admin.ExplainedSteering{Policy: s.Policy, Acceptors: []admin.ExplainedAcceptor{}}
	serve := 0
	for i, a := range v.Acceptors {
		e.Acceptors = append(e.Acceptors, admin.ExplainedAcceptor{Number: a.Number, State: a.State, Load: s.Loads[i]})
		if a.State != leaving {
			serve++
		}
	}
	if s.Next >= 0 {
		e.Next = &s.Next
	}
	e.Text = s.words(serve)
	return e
}

// words say how one of the acceptors is chosen.
func (s *Steering) words(acceptors int) string {
	switch picked := s.Next >= 0; {
	case s.Next == Nobody:
		return "no acceptor takes connections, so the kernel's hash chooses"
	case picked && s.Policy == steering.Least.String():
		return fmt.Sprintf("acceptor %d is next: it has the fewest connections", s.Next)
	case picked && s.Policy == steering.RoundRobin.String():
		return fmt.Sprintf("acceptor %d is next: it is its turn", s.Next)
	case acceptors == 1:
		return "there is one acceptor"
	case s.Policy == metrics.SteeredHandOff:
		return fmt.Sprintf("the kernel hashes the client's address and port with a secret: any of the %d; one that has too many passes it on to the one with the fewest", acceptors)
	case s.Policy == metrics.SteeredShared:
		return fmt.Sprintf("one queue, and the first of the %d to wake; one that has too many passes it on to the one with the fewest", acceptors)
	case s.Policy == steering.CPU.String():
		return "the acceptor of the CPU that gets the SYN"
	case s.Policy == steering.Least.String():
		return "the acceptor with the fewest connections"
	case s.Policy == steering.RoundRobin.String():
		return "each acceptor in turn"
	}
	return fmt.Sprintf("the kernel hashes the client's address and port with a secret: any of the %d", acceptors)
}
