// Package pool chooses the backend of a session.
//
//	Pool (names, addresses, weights; plain data, part of a Plan)
//	   │ Prepare, once per process: the table of source_hash
//	   │ NewPicker, one per acceptor
//	   ▼
//	Picker.Pick(tried, client) ─► index of a backend, or -1
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

	tables [2]table // by tier; only of a prepared SourceHash
}

// Prepare returns p as pickers take it. For SourceHash it builds the tables, which
// takes milliseconds, and puts one backend for each address in the place of a name's;
// they share its name and its weight.
func (p Pool) Prepare() Pool {
	if p.Pick != SourceHash {
		return p
	}
	var claims [2][]claim
	targets := targetsOf(p.Backends)
	p.Backends = nil
	for i, t := range targets {
		p.Backends = append(p.Backends, t.backend)
		own := &claims[tier(t.backend.Backup)]
		*own = append(*own, newClaim(i, t))
	}
	for i := range claims {
		p.tables[i] = newTable(claims[i])
	}
	return p
}

// tier is the index of a table: backups have their own.
func tier(backup bool) int {
	if backup {
		return 1
	}
	return 0
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
	SourceHash                  // by the client's address, the same one everywhere
)
