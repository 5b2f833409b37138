package proxy

import "sluice/metrics"

// A session is one client connection and the backend connection it is given.
//
//	    ┌──► preamble ──┐ (where its listener asks for one)
//	accepted            ▼ connected                        both halves done
//	────────► dialing ────────────► relaying ───────────────────────────────► closed(reason)
//	          │    ▲    └► upgrading ─┘ │                                         ▲
//	          ▼    │ to try again      └── reset, idle, cut, ... ────────────────┤
//	          waiting                                                            │
//	          └───────────── refused, late, no backend, client gone ─────────────┘
//
//	each half while relaying:  open ──EOF──► flushing ──all delivered──► done (the peer is told by SHUT_WR)
//
// fd[client] is always valid, fd[backend] in dialing, upgrading and relaying. Only
// setState moves a session, only end ends it.
//
// It holds no pointer: thousands of them lie in the slab, and the garbage
// collector does not look inside. Listener and target are numbers that no other is
// given while it lives.
type session struct {
	gen         uint32 // counts the uses of this slot; an event of an older use is stale
	opening     int32  // index in the acceptor's openings plus one; 0 while relaying
	state       state
	queued      bool           // on the run list
	picked      bool           // counted as active on its target
	halfCounted bool           // counted as half-closed
	firstEOF    metrics.Reason // whose FIN came first; valid once a half is not open
	ready       [2]readiness   // by side
	tuned       bool           // its backend's socket is as Listener.ToBackend says
	listener    uint16         // metrics.ID.Index
	target      uint16         // the same; valid if picked
	fd          [2]int32       // by side
	half        [2]half        // by direction
	route       uint16         // the same plus one; 0 = it took none
	opened      int64          // clock at accept, nanoseconds
	moved       uint32         // tick of the wheel: of the last byte or state
	unsent      uint32         // what both receivers had not acknowledged as its deadline came; 0 = it has moved since
	maxTick     uint32         // tick at which max_duration ends; 0 = never
	timer       link
	nextRun     int32  // run list; also the free list
	proving     uint32 // clock in ms up to which its target is to serve it, see eject.go; 0 = it does, or need not
	note        int32  // index in the acceptor's notes plus one; 0 = no records were wanted as it began
}

type state uint8

const (
	stateFree state = iota
	stateDialing
	stateUpgrading // its backend was asked for TLS as the client has asked, see starttls_linux.go
	statePreamble  // for what its listener wants to know of it, see preamble_linux.go
	stateWaiting   // for a descriptor, a source port, a backend or a place at one, see wait.go
	stateRelaying
)

// side names one of the two connections, direction one of the two halves. The
// values match on purpose: half d reads from side d and writes to side d^1.
type (
	side      = int
	direction = int
)

const (
	client  side = 0
	backend side = 1

	toBackend direction = 0
	toClient  direction = 1
)

// half is one direction of a session.
//
// Invariant: held bytes lie in the pipe if pipe is set, else in the spill; with
// nothing held neither is set. So an idle half owns nothing.
type half struct {
	held      int32  // read and not yet delivered
	wake      uint32 // tick at which its pace lets it go on, see pace.go; 0 = it does not wait for that
	pipe      int32  // index in the acceptor's pipes plus one
	spill     int32  // index in the acceptor's spills plus one
	state     halfState
	streaming bool  // it moves much: its session comes after those that ask for little
	splicing  bool  // it is moved by splice(2)
	streak    uint8 // reads in a row that speak against streaming as it is
	heard     bool  // a byte or the EOF came from the source
	calm      uint8 // full fills so far, up to calmFills; until then they are short
}

type halfState uint8

const (
	halfOpen halfState = iota
	halfFlushing
	halfDone
)

// readiness is what epoll has told of one connection. The watch is edge-triggered,
// so a bit stays until a system call returns EAGAIN.
//
//	EPOLLIN     readable
//	EPOLLPRI    urgent: a read stops short at its urgent byte and a splice(2) does not get past it; the byte itself is not passed on
//	EPOLLOUT    writable
//	EPOLLRDHUP  eof: its FIN is here, perhaps behind data. A short read does not mean empty any more: read on to 0
//	EPOLLHUP    both directions are shut; so eof, and calls on it will not block
//	EPOLLERR    broken: data may still be read before the error comes out, nothing can be written
//
// IN, OUT, RDHUP and HUP come in any combination; the bits simply add up. One more
// is found by writing:
//
//	reported    broken, and a write was given its error: a read of 0 is no EOF any more
type readiness uint8

const (
	readable readiness = 1 << iota
	writable
	eof
	hup
	broken
	reported
	urgent
)

// The epoll bits, as in uapi/linux/eventpoll.h.
const (
	epollIn    = 0x1
	epollPri   = 0x2
	epollOut   = 0x4
	epollErr   = 0x8
	epollHup   = 0x10
	epollRdhup = 0x2000
	epollET    = 1 << 31

	epollExclusive = 1 << 28
)

func readinessOf(events uint32) (r readiness) {
	if events&epollIn != 0 {
		r |= readable
	}
	if events&epollPri != 0 {
		r |= readable | urgent
	}
	if events&epollOut != 0 {
		r |= writable
	}
	if events&epollRdhup != 0 {
		r |= readable | eof
	}
	if events&epollHup != 0 {
		r |= readable | writable | eof | hup
	}
	if events&epollErr != 0 {
		r |= readable | writable | broken
	}
	return r
}

// done says that both halves have ended as they should.
func (s *session) done() bool {
	return s.half[toBackend].state == halfDone && s.half[toClient].state == halfDone
}

// halfClosed says that one half is done and the other goes on.
func (s *session) halfClosed() bool {
	return (s.half[toBackend].state == halfDone) != (s.half[toClient].state == halfDone)
}
