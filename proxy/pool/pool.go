// Package pool chooses the backend of a session.
//
//	Pool (names, addresses, weights; plain data, part of a Plan)
//	   │ NewPicker, one per acceptor
//	   ▼
//	Picker.Pick(tried) ─► index of a backend, or -1
//	   ▲
//	   └ sessions held by each backend over all acceptors, from the board
//
// It opens no connection: the acceptor dials, and asks again with what it has tried.
package pool

import (
	"net/netip"
	"time"
)

// Pool is a named set of backends and the rules for picking one. It is part of
// a proxy.Plan: plain data, never changed after it was published.
type Pool struct {
	Name           string
	Pick           Policy
	ConnectTimeout time.Duration // per try; never 0
	Retries        int           // further tries of one session after its first
	Source         netip.Addr    // source address of connections; the zero Addr leaves it to the kernel
	Backends       []Backend
}

// Backend is one address we connect to.
type Backend struct {
	Name   string           // host:port as configured; the metric label
	Addrs  []netip.AddrPort // what the name resolved to, never changed in place; empty = not resolved (yet)
	Weight int              // 1..256: its share among the pool's backends
	Backup bool             // picked only when no other may be
}

// Policy is the way a pool's backends take turns.
type Policy uint8

// The policies.
const (
	RoundRobin    Policy = iota // smooth weighted round robin, each acceptor on its own
	LeastSessions               // fewest sessions for its weight, exact over all acceptors
)
