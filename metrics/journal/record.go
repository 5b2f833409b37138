package journal

import (
	"net/netip"
	"time"
	"unsafe"

	"sluice/metrics"
)

// Record is one thing that happened to a session. It lies in shared memory as it
// stands. Times are CLOCK_MONOTONIC in nanoseconds; what was not reached is 0.
type Record struct {
	seq       uint64     // its number in the ring plus one: tells it from an older one in the same place
	Session   ID         // of a connection that never was one (KindRejected) the seat only, with use 0
	Listener  metrics.ID // always
	Target    metrics.ID // that it was given last; valid if Tries > 0
	Opened    int64      // accepted
	Dialed    int64      // the last connect began
	Connected int64      // and ended well
	At        int64      // this happened
	Received  uint64     // bytes from the client, delivered to the backend
	Sent      uint64     // bytes to the client
	Client    Peer
	Kind      Kind
	Flags     Flags
	Reason    metrics.Reason // KindClosed
	Reject    metrics.Reject // KindRejected
	Class     metrics.ConnectError
	Tries     uint8      // connects that were begun
	Route     metrics.ID // that it took; valid if Flags has Routed
	_         [16]byte
}

// recordWords is what a Record takes of a ring: two cache lines.
const recordWords = 16

var _ [recordWords*8 - unsafe.Sizeof(Record{})]struct{}
var _ [unsafe.Sizeof(Record{}) - recordWords*8]struct{}

// Kind is what happened.
type Kind uint8

// The kinds. Which of them an acceptor writes is up to the Want in its cells.
const (
	KindNone       Kind = iota
	KindClosed          // it ended
	KindConnected       // a backend took it
	KindRejected        // the connection was closed before it became a session
	KindAccepted        // it began
	KindDialed          // a connect began
	KindDialFailed      // and failed: Class
	KindWaits           // it cannot be dialed now and will be later
	numKinds
)

// Want is what an acceptor is to write down, in AcceptorCells.Record.
type Want int64

// The wants; they add up. A turn's work ends sooner with each than with the
// next: a service that is not watched has none.
const (
	WantEnds     Want = 1 << iota // KindClosed and KindRejected
	WantConnects                  // KindConnected
	WantSteps                     // all kinds
)

// Flags say more about a session.
type Flags uint8

// The flags.
const (
	// Partial: the acceptor did not write anything down yet when the session began, so
	// bytes, connects and perhaps the client are not known.
	Partial Flags = 1 << iota
	// Spliced: some of its bytes went through a pipe.
	Spliced
	// Queued: it was waiting to be dialed.
	Queued
	// Routed: it took a route.
	Routed
)

// Peer is an address without a pointer in it. The zero one is not known.
type Peer struct {
	ip   [16]byte
	port uint16
}

// PeerOf is a as a Peer.
func PeerOf(a netip.AddrPort) Peer {
	if !a.IsValid() {
		return Peer{}
	}
	return Peer{a.Addr().As16(), a.Port()}
}

// AddrPort is p as an address; IPv4 in IPv6's clothes comes out as IPv4.
func (p Peer) AddrPort() netip.AddrPort {
	if p == (Peer{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(p.ip).Unmap(), p.port)
}

// Age is how long the session had lasted.
func (r *Record) Age() time.Duration { return time.Duration(r.At - r.Opened) }

// Connect is how long its last connect took; -1 = it did not end well.
func (r *Record) Connect() time.Duration { return between(r.Dialed, r.Connected) }

// Queue is how long it took from the accept to its last connect; -1 = there was none.
func (r *Record) Queue() time.Duration { return between(r.Opened, r.Dialed) }

func between(from, to int64) time.Duration {
	if from == 0 || to == 0 {
		return -1
	}
	return time.Duration(to - from)
}

// sound says whether a record can be true: what reads it goes by these fields.
func (r *Record) sound(seat int) bool {
	return r.Kind > KindNone && r.Kind < numKinds && r.Reason < metrics.NumReasons && r.Reject < metrics.NumRejects &&
		r.Class < metrics.NumConnectErrors && r.Listener.Valid(metrics.MaxListeners) && r.Target.Valid(metrics.MaxTargets) && r.Route.Valid(metrics.MaxRoutes) &&
		r.Session.Seat() == seat && r.Opened <= r.At && r.Opened > 0
}
