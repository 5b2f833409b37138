package proxy

import (
	"fmt"
	"syscall"

	"sluice/metrics"
	"sluice/proxy/preamble"
)

// A PostgreSQL client asks for TLS before it speaks it, and says only then where it wants
// to go. So it is answered here, and what it asked is asked once more of the backend that
// it is routed to. The backend's answer is kept from the client, which has one:
//
//	client                     sluice                          backend
//	SSLRequest    ──peek──►    tell
//	          ◄──── S ────
//	ClientHello   ──peek──►    route, dial ... connected
//	                           introduce  ──PROXY, SSLRequest─►
//	(read and gone: SSLRequest)
//	                           upgrading  ◄──────── S ─────────
//	              ────────────────── relaying: ClientHello ───►
//
// Nothing goes to the backend before it has said yes: PostgreSQL refuses what comes before
// that, since it could be an attacker's (CVE-2021-23214).

// tell answers those of a client's requests that have not been answered. ok is false if it
// cannot be told all now.
//
//	write  EAGAIN, short  again with the next event
func (a *Acceptor) tell(slot int32, s *session, start *preamble.Start) (o outcome, ok bool) {
	opening := a.openings.of(s)
	rest := start.Answers[min(int(opening.told), len(start.Answers)):]
	if rest == "" {
		return outcome{}, true
	}
	n, errno := a.sys.Write(int(s.fd[client]), append(a.buffer[2*preamble.Max:2*preamble.Max], rest...))
	switch {
	case errno == syscall.EINTR:
		a.enqueue(slot, s)
		return outcome{state: statePreamble}, false
	case errno == syscall.EAGAIN:
		s.ready[client] &^= writable
		return outcome{state: statePreamble}, false
	case errno != 0 && !peers(errno):
		return over(cutFor(metrics.ReasonInternal)), false
	case errno != 0:
		return over(brokenAt(client)), false
	}
	opening.told += uint8(n)
	opening.start, opening.upgrade = uint8(start.Len), start.TLS
	if n < len(rest) {
		a.enqueue(slot, s)
		return outcome{state: statePreamble}, false
	}
	return outcome{}, true
}

// upgrading waits for the backend to say yes to TLS.
//
//	client   backend   what
//	ERR HUP  any       the client has gone: end
//	any      OUT       the rest of what it was asked goes first
//	any      IN        its answer: one byte, and what follows is the client's
//	any      ERR HUP   it is read what came before that
func (a *Acceptor) upgrading(slot int32, s *session) outcome {
	if s.ready[client]&(broken|hup) != 0 {
		return over(brokenAt(client))
	}
	for h := &s.half[toBackend]; h.held > 0 && s.ready[backend]&(writable|broken) == writable; {
		n, errno := a.sys.Write(int(s.fd[backend]), a.spills.last(h.spill, h.held))
		if errno != 0 {
			if s.notWritten(backend, errno) == denied {
				return over(cutFor(metrics.ReasonInternal))
			}
			continue
		}
		if h.held -= int32(n); h.held == 0 {
			a.releaseHeld(h)
		}
	}
	if s.ready[backend]&readable == 0 {
		return outcome{state: stateUpgrading}
	}
	b := a.buffer[:1]
	n, errno := a.sys.Read(int(s.fd[backend]), b)
	switch {
	case errno != 0:
		switch s.notRead(backend, errno) {
		case blocked:
			if errno == syscall.EINTR {
				a.enqueue(slot, s)
			}
			return outcome{state: stateUpgrading}
		case denied:
			return over(cutFor(metrics.ReasonInternal))
		}
		return over(brokenAt(backend))
	case n == 0:
		return a.withoutTLS(s, metrics.ReasonStartTLSRefused, "closed")
	case b[0] != preamble.SaysYes:
		return a.withoutTLS(s, metrics.ReasonStartTLSRefused, fmt.Sprintf("%q", b))
	}
	return outcome{state: stateRelaying}
}

// withoutTLS ends a session whose backend did not say yes.
func (a *Acceptor) withoutTLS(s *session, reason metrics.Reason, said string) outcome {
	p := a.poolOf(s)
	a.complain(p, Notice{Kind: NoticeNoTLS, Name: p.nameOf(a.openings.of(s).target), Text: said})
	return over(cutFor(reason))
}
