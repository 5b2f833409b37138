// Package pool chooses the target of a session: one address of a backend.
//
//	Pool (targets: ID, address, weight; plain data, part of a Plan)
//	   │ Prepare, once per process: their order, the tables of source_hash
//	   ▼
//	Prepared
//	   │ NewPicker, one per acceptor; Adopt takes over the turns of the Plan before
//	   ▼
//	Picker.Pick(tried, client) ─► index of a target, or -1
//	   ▲
//	   └ by target, from the board: sessions held over all acceptors; the weight in force;
//	     whether it fails. One that fails is ranked last, whatever the policy says
//
// It opens no connection: the acceptor dials, and asks again with what it has tried.
package pool

import (
	"net/netip"
	"time"

	"sluice/metrics"
)

// Pool is a named set of targets and the rules for picking one. It is part of
// a proxy.Plan: plain data, never changed after it was published.
type Pool struct {
	ID             metrics.ID
	Name           string
	Pick           Policy
	MaxLoad        float64       // of a SourceHash: no target has more than so many times its share of the sessions; 0 = no bound
	ConnectTimeout time.Duration // per try; never 0
	Retries        int           // further tries of one session after its first
	RetryBudget    float64       // 0..1: retries for each session; 0 = as many as Retries says
	Sources        []netip.Addr  // source addresses of connections, in turn; none = the kernel chooses
	SourcePorts    Ports         // and their ports; none = the kernel chooses
	Transparent    bool          // the source address is the client's own; then there are no Sources
	Multipath      bool          // connections speak Multipath TCP where the kernel and the target can
	Early          Early         // what a socket is given before it connects
	Netns          uint64        // the number of the network namespace that connections are made in; 0 = the acceptor's own
	SendProxy      SendProxy     // what a session is introduced with
	Ejection       Ejection
	Queue          int           // sessions at a time that may wait for a place at a target that has MaxSessions, over all acceptors; 0 = none
	QueueTimeout   time.Duration // and how long one of them may
	Targets        []Target
}

// Ejection says when a target is picked last for what sessions meet there, and for how
// long. The zero Ejection is one that goes by connects alone: the first that fails counts.
type Ejection struct {
	ConnectFailures int           // in a row; 0 = 1
	Early           time.Duration // from the connect: a session that is closed by then, and was told nothing, counts; 0 = none does
	EarlyCloses     int           // of these in a row
	MaxShare        float64       // of a tier's targets; with more out none is ejected for EarlyCloses
	Time, MaxTime   time.Duration // the first ejection's, which doubles up to the longest; 0 = see package proxy
	Jitter          float64       // 0..1: each is longer or shorter by up to this share
}

// Early is what a socket is given before it connects, since the SYN goes by it: what
// package sys has under this name. Zero leaves a thing as the kernel has it.
type Early struct {
	Congestion string // name of the congestion control
	TOS        int    // of the packets
	Mark       int    // of the packets, for routing rules and firewalls
	Interface  string // the only one that packets come and go by
}

// Ports is a range of them, both ends included; the zero Ports is none.
type Ports struct{ Low, High uint16 }

// Count is how many there are.
func (p Ports) Count() int {
	if p.High == 0 {
		return 0
	}
	return int(p.High) - int(p.Low) + 1
}

// Target is one address we connect to. A backend given by name is as many of them as it
// has addresses, each with the backend's weight. Its ID is its own in the pool.
type Target struct {
	ID          metrics.ID
	Backend     string // host:port as configured; the metric label
	Addr        netip.AddrPort
	Weight      int  // as configured, 1..256: its share of a source_hash table. What else is picked goes by the board
	Backup      bool // picked only when no other may be
	MaxSessions int  // at a time, over all acceptors; 0 = any number. What holds is what the board says (metrics.Limit)
}

// Policy is the way a pool's targets take turns.
type Policy uint8

// The policies.
const (
	RoundRobin    Policy = iota // smooth weighted round robin, each acceptor on its own
	LeastSessions               // fewest sessions for its weight, exact over all acceptors
	SourceHash                  // by the client's address, the same one everywhere
	Random2                     // of two at random the one with fewer sessions for its weight
	First                       // the first in the order of the configuration
	Fastest                     // of two at random the one with less connect time times sessions
)
