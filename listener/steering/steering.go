// Package steering chooses, at a connection's SYN, which acceptor will get it.
//
//	      acceptors write         the control plane writes      no system call
//	     settled, gone, closed        draining, hung            in any of it
//	                     │               │
//	                     ▼               ▼
//	SYN ─► group ─► program ◄── Rows: one per seat, shared memory
//	                   │           ▲
//	                   │           └── the program counts its picks: selected
//	                   ▼
//	               the socket of seat i, on which acceptor i accepts
//
// It is a ladder: least and round_robin are a BPF program (select.bpf.c), cpu is
// a classic one that needs no privilege, and hash is what the kernel does by
// itself. Attach takes the rung asked for or, with the reason, the last one.
//
// A group may grow and shrink while it is steered, on every rung:
//
//	listener.Group.Add ─► Place ─► steered to ─► Remove ─► nothing new ─► the queue runs empty
//	                                                                              │
//	                                       Removed ◄─ listener.Group.Remove ◄─────┘
//
// The program belongs to the group, not to the process that attached it: it
// steers on while the sockets live, until Close or another Attach.
package steering

import (
	"errors"
	"fmt"
	"strings"
)

// Policy says how an acceptor is chosen.
type Policy uint8

// The policies.
const (
	Auto       Policy = iota // Least where it can be had, else Hash
	Least                    // the acceptor with the fewest connections, held and in flight
	RoundRobin               // each in turn
	CPU                      // the acceptor with the number of the CPU that got the SYN
	Hash                     // the kernel's own: by the client's address and port
)

var policyNames = []string{"auto", "least", "round_robin", "cpu", "hash"}

func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return "unknown"
}

// ParsePolicy is the inverse of String.
func ParsePolicy(s string) (Policy, error) {
	for p, name := range policyNames {
		if s == name {
			return Policy(p), nil
		}
	}
	return 0, fmt.Errorf("steering %q: want one of %s", s, strings.Join(policyNames, ", "))
}

// Options say what to steer and how.
type Options struct {
	Sockets map[int]int  // by seat: the sockets that are steered to, at least one, listening
	Order   func() []int // the group's seats as the kernel numbers them: listener.Group.Order
	Rows    *Rows        // the acceptors', for this group
	Policy  Policy

	// First, not below 0, says where turns begin: modulo the number of seats, at which of
	// them in ascending order. Groups that all began at the first would, with a connection
	// or two each, give it the most.
	First int

	// Shared says that other instances have sockets in the group. It then stays
	// with Hash: a program sees only ours and would take everything for us.
	Shared bool
}

// Info is what steering is in force and why.
type Info struct {
	Requested Policy
	Effective Policy // never Auto
	Reason    string // why it is not what was requested; "" = it is
	Err       error  // the same, to be asked with errors.Is
}

// Support tells what this process may use on this kernel. Each error is nil
// (there), ErrNotSupported (not there), or anything else (could not tell, as
// without the privilege to try).
type Support struct {
	BPF error // least and round_robin
	CPU error
}

// ErrNotSupported is a feature that the kernel does not have.
var ErrNotSupported = errors.New("not supported by this kernel")
