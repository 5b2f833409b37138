package proxy

import (
	"sluice/metrics"
	"sluice/metrics/journal"
)

// opening is what a session needs only until both of its ends are connected. It is
// lent like a pipe, and given back when relaying begins or the session ends: an idle
// session does not carry it.
type opening struct {
	target      metrics.ID           // that it dials; valid if picked
	tried       [maxTries]metrics.ID // targets that failed it since it was last parked, or the first of them
	tries       uint8                // how many of them
	charged     uint8                // tries that the retry budget pays for
	spared      uint8                // and those it does not, see dial_linux.go
	failed      bool                 // a try has failed since it was last parked
	resort      bool                 // the target was failing as it was picked
	evaded      bool                 // it has left one to another session that waits for the answer, see unanswered
	earned      bool                 // it has added its part to the retry budget
	suspected   bool                 // the target is ranked last because of this session
	joined      bool                 // the connect was done at once, as one to a unix socket is
	lastError   metrics.ConnectError // of the last try that failed
	lacking     bool                 // it waits for a descriptor; counted in intake.lacking
	place       queued               // in the pool's queue
	awaiting    bool                 // no backend took it yet, or it is barred, and it may wait; counted in ListenerCells.Waiting
	called      bool                 // it is barred, and its source may have room
	asked       bool                 // its listener's questions come no more
	dialed      int64                // clock at the last connect
	until       uint32               // tick at which dialing or waiting ends
	barred      uint32               // the source that it waits for, see barred.go; 0 = it does not
	barredUntil uint32               // tick at which that ends
	header      uint16               // length of the PROXY header that still lies in the client's socket
	start       uint8                // and of the requests behind it that a PostgreSQL client began with
	told        uint8                // how many of them were answered
	upgrade     bool                 // the last was for TLS: its backend is asked for it, too
	client      journal.Peer         // whose connection it is by that header; the zero one = the socket's peer
	routed      metrics.ID           // pool of its route; 0 = its listener's
	next        int32                // free list
}

// maxTries is one more than the most retries that may be configured.
const maxTries = 11

// maxSpared bounds the tries that cost no retry, so that a pool of a thousand targets of
// which all have just died ends a session in about a millisecond.
const maxSpared = 100

// openings are an acceptor's opening records.
type openings struct {
	all      []opening
	free     int32 // head of the free list; -1 = none
	refusals refusals
}

func newOpenings() openings { return openings{free: -1} }

// lend returns a cleared record as its index plus one.
func (o *openings) lend() int32 {
	i := o.free
	if i < 0 {
		i = int32(len(o.all))
		o.all = append(o.all, opening{})
	} else {
		o.free = o.all[i].next
	}
	o.all[i] = opening{}
	return i + 1
}

// of is the record that a session in its opening holds. A later lend may move it.
func (o *openings) of(s *session) *opening { return &o.all[s.opening-1] }

// giveBack takes the session's record, if it has one. After a burst the memory stays for
// the next: about 160 bytes for each session that ever was opening at the same time.
func (o *openings) giveBack(s *session) {
	if s.opening == 0 {
		return
	}
	o.all[s.opening-1].next = o.free
	o.free = s.opening - 1
	s.opening = 0
}

// lead is how many bytes of the client's are not payload.
func (o *opening) lead() int { return int(o.header) + int(o.start) }

// outcome is what a step of the opening leads to: the state in which the session goes
// on, or that it is over and how it ends.
type outcome struct {
	state state // preamble, dialing, upgrading, waiting or relaying; free = it is over
	end   ending
}

func over(e ending) outcome { return outcome{end: e} }

// carryOn is the one place where a step of the opening takes effect.
//
//	preamble, dialing, upgrading, waiting   its deadline holds from now on
//	relaying                                the record goes back, and bytes move
//	free                                    the session ends
func (a *Acceptor) carryOn(slot int32, s *session, o outcome) {
	switch o.state {
	case stateFree:
		a.end(slot, s, o.end)
	case stateRelaying:
		a.stopAwaiting(s, metrics.WaitConnected)
		s.moved, s.proving = a.tick, a.provingFrom(a.poolOf(s))
		a.openings.giveBack(s)
		a.setState(slot, s, stateRelaying)
		a.relay(slot, s)
	default:
		if o.state == stateWaiting {
			if e, left := a.left(s); left {
				a.end(slot, s, e)
				return
			}
			a.noteWaits(s)
		}
		a.setState(slot, s, o.state)
	}
}
