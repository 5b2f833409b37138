package proxy

import (
	"errors"
	"net/netip"
	"syscall"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy/preamble"
)

// A preamble is looked at where it lies, in the client's socket (MSG_PEEK), each time that
// more of it has come. So a session whose client is slow holds no memory here, what
// follows is not touched, and it can be looked at again when the backend is there:
//
//	admit ─► preamble ──peek: all there──► dial ... connected ─► introduce: header to the backend,
//	           │  ▲                                              the client's own read and gone ─► relaying
//	           ▼  │ EPOLLIN: more has come
//	           (waits, until preamble_timeout)
//
// The watch is edge-triggered: it tells of new bytes only, not again of those that lie
// there. Each peek copies what has come so far, which preamble.Max bounds.

var (
	errCutShort = errors.New("ends in the middle")
	errLeft     = errors.New("the client has left")
)

// ask begins a session: with what its listener wants to know of it, or with its backend.
func (a *Acceptor) ask(slot int32, s *session) outcome {
	l := a.listenerOf(s)
	a.openings.of(s).asked = true
	q := l.inquiry
	if q == nil {
		return a.dial(slot, s)
	}
	if q.Proxy != ProxyOff || q.hello {
		if q.Proxy == ProxyRequired && !a.mayTell(l, s) {
			return a.refuse(l, s, fault{metrics.ReasonProxyUntrusted, errUntrusted})
		}
		if q.hello || a.mayTell(l, s) {
			a.openings.of(s).until = a.tick + ticks(q.Timeout)
			return outcome{state: statePreamble}
		}
	}
	return a.goOn(slot, s, l, &answer{})
}

var errUntrusted = errors.New("not in proxy_protocol_from")

// mayTell says whether the client may tell whose connection it is. A unix socket's file
// rights have said who may connect to it.
func (a *Acceptor) mayTell(l *listener, s *session) bool {
	return l.inquiry.Proxy != ProxyOff && (l.Unix || within(l.inquiry.From, a.peerOf(s)))
}

// peerOf is the address of the client's socket, whatever a header says.
func (a *Acceptor) peerOf(s *session) netip.Addr { return a.sys.PeerAddr(int(s.fd[client])).Addr() }

// preamble looks how far a session's preamble has come.
//
//	EAGAIN  nothing yet: not readable until the next event
//	0       the client's FIN, before its first byte: it has left
//	else    all that has come, again from the first byte on
func (a *Acceptor) preamble(slot int32, s *session) outcome {
	l := a.listenerOf(s)
	q := l.inquiry
	switch {
	case a.isLost(s):
		return over(brokenAt(client))
	case q == nil: // a reload has turned it off; what has come so far is payload
		s.ready[client] |= readable
		return a.dial(slot, s)
	case s.ready[client]&readable == 0:
		return outcome{state: statePreamble}
	}
	b := a.buffer[:preamble.Max]
	n, errno := a.sys.Peek(int(s.fd[client]), b)
	switch {
	case errno == syscall.EINTR:
		a.enqueue(slot, s)
		return outcome{state: statePreamble}
	case errno == syscall.EAGAIN:
		s.ready[client] &^= readable
		return outcome{state: statePreamble}
	case errno != 0 && !peers(errno):
		return over(cutFor(metrics.ReasonInternal))
	case errno != 0:
		return over(brokenAt(client))
	case n == 0:
		return over(cutFor(metrics.ReasonClientEOF))
	}
	in := opened{b: b[:n], mayTell: a.mayTell(l, s), postgres: q.Postgres, end: s.ready[client]&eof != 0}
	o := a.openings.of(s)
	begun := o.told > 0
	if begun { // an answered request is understood, whatever a reload has changed
		in.b, in.mayTell, in.postgres = b[min(int(o.header), n):n], false, true
	}
	found, done, f := q.read(in, a.buffer[preamble.Max:preamble.Max:2*preamble.Max])
	switch {
	case f.is == errLeft:
		return over(cutFor(f.reason))
	case f.is != nil:
		return a.refuse(l, s, f)
	case !begun && (done || found.start.Answers != ""):
		a.learn(s, &found)
	}
	if out, ok := a.tell(slot, s, &found.start); !ok {
		return out
	}
	switch {
	case done:
		return a.goOn(slot, s, l, &found)
	case n == preamble.Max:
		return a.refuse(l, s, fault{metrics.ReasonHelloMalformed, preamble.FaultTooLong})
	}
	s.ready[client] &^= readable
	return outcome{state: statePreamble}
}

// goOn is the next step of a session of which all is known that its listener wants to know.
func (a *Acceptor) goOn(slot int32, s *session, l *listener, found *answer) outcome {
	if len(l.inquiry.Routes) > 0 {
		if to := l.inquiry.routes.find(&found.hello, a.clientOf(s).Addr()); to != nil {
			a.takeRoute(s, to)
		}
	}
	if l.learns() && l.guarded() {
		return a.enterLearnt(slot, s, l)
	}
	return a.dial(slot, s)
}

// learns says whether the client may be another than the peer of its socket.
func (l *listener) learns() bool { return l.inquiry != nil && l.inquiry.Proxy != ProxyOff }

// learn keeps what a PROXY header says until the session has its backend.
func (a *Acceptor) learn(s *session, found *answer) {
	o := a.openings.of(s)
	o.header = uint16(found.header.Len)
	if found.header.Source.IsValid() {
		o.client = journal.PeerOf(found.header.Source)
		a.noteClient(s, o.client)
	}
}

// clientOf is the client that opened the connection: as a PROXY header says, or the peer of the
// socket.
func (a *Acceptor) clientOf(s *session) netip.AddrPort {
	if told := a.openings.of(s).client.AddrPort(); told.IsValid() {
		return told
	}
	return a.sys.PeerAddr(int(s.fd[client]))
}

// poolOf is the pool of a session that is being opened: its route's, or its listener's. A
// reload that takes away both a route and its pool leaves sessions on their way there to
// the listener's.
func (a *Acceptor) poolOf(s *session) *pooled {
	if routed := a.openings.of(s).routed; routed != 0 {
		if p := a.bound.pools[routed]; p != nil {
			return p
		}
	}
	return a.listenerOf(s).pool
}

// refuse ends a session for its preamble. The log hears of it, of each source now and then.
func (a *Acceptor) refuse(l *listener, s *session, f fault) outcome {
	if from := a.peerOf(s); a.openings.refusals.isNews(from, a.tick) {
		a.notify(Notice{Kind: NoticeBadPreamble, Name: l.Name, Source: from, Text: f.is.Error()})
	}
	return over(cutFor(f.reason))
}

// refusals remembers which sources' refusals were reported lately, so that a flood of
// them does not push other notices out. Where two sources have one place, one may be
// reported too often.
type refusals struct{ places []refusal }

type refusal struct {
	from netip.Addr
	tick uint32
}

const (
	refusalPlaces = 256
	tellAgain     = 1200 // ticks: a minute
)

func (r *refusals) isNews(from netip.Addr, tick uint32) bool {
	if r.places == nil {
		r.places = make([]refusal, refusalPlaces)
	}
	hash := uint32(2166136261) // FNV-1a
	for _, x := range from.As16() {
		hash = (hash ^ uint32(x)) * 16777619
	}
	at := &r.places[hash%refusalPlaces]
	if at.from == from && tick-at.tick < tellAgain {
		return false
	}
	*at = refusal{from, tick}
	return true
}
