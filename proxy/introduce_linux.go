package proxy

import (
	"net/netip"
	"syscall"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy/pool"
	"sluice/proxy/preamble"
)

// introduce tells a backend that has just taken the connection whose it is, if its pool
// wants that, and takes the header that the client itself sent out of its socket, with the
// requests that were answered here: the next byte there is payload. A backend whose client
// asked for TLS is asked for it, see starttls_linux.go. ok is false if the session does not go on to relay.
//
//	write  EAGAIN, short  the rest goes ahead of the client's bytes, as the backend takes it
func (a *Acceptor) introduce(slot int32, s *session) (o outcome, ok bool) {
	p, lead, upgrade := a.poolOf(s), a.openings.of(s).lead(), a.openings.of(s).upgrade
	if p.SendProxy.Version != 0 || upgrade {
		out := a.headerFor(slot, s, &p.SendProxy)
		if upgrade {
			out = append(out, preamble.SSLRequest...)
		}
		n, errno := a.sys.Write(int(s.fd[backend]), out)
		switch {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
			n = 0
			if errno == syscall.EAGAIN {
				s.ready[backend] &^= writable
			}
		case errno != 0:
			return a.dialFailed(slot, s, classifyConnect(errno)), false
		}
		if n < len(out) {
			if n > 0 {
				s.ready[backend] &^= writable
			}
			h := &s.half[toBackend]
			h.spill, h.held = a.spills.keep(out[n:]), int32(len(out)-n)
		}
	}
	if lead > 0 {
		// It has been there, so all of it is.
		n, errno := a.sys.Read(int(s.fd[client]), a.buffer[:lead])
		switch {
		case errno != 0 && peers(errno):
			return over(brokenAt(client)), false
		case n != lead:
			return over(cutFor(metrics.ReasonInternal)), false
		}
	}
	return outcome{}, true
}

// headerFor is the header for a backend, if it wants one. It lies in the acceptor's buffer, behind the
// preamble that it is made of.
func (a *Acceptor) headerFor(slot int32, s *session, want *pool.SendProxy) []byte {
	if want.Version == 0 {
		return a.buffer[2*preamble.Max : 2*preamble.Max]
	}
	var found answer
	if want.Reads() || a.openings.of(s).header > 0 {
		n, errno := a.sys.Peek(int(s.fd[client]), a.buffer[:preamble.Max])
		if errno != 0 {
			n = 0 // it has gone, as relaying will find out
		}
		// What the listener asked for was there and right; of what it did not ask for only
		// that counts which is there now.
		header, _, _ := preamble.ParseProxy(a.buffer[:n][:min(n, int(a.openings.of(s).header))])
		found.header = header
		if want.Names() {
			found.hello, _, _ = preamble.ParseHello(a.buffer[min(header.Len+int(a.openings.of(s).start), n):n], a.buffer[preamble.Max:preamble.Max:2*preamble.Max])
		}
	}
	source, dest := found.header.Source, found.header.Dest
	if !source.IsValid() {
		source, dest = a.sys.PeerAddr(int(s.fd[client])), a.sys.LocalAddr(int(s.fd[client]))
	}
	return appendHeader(a.buffer[2*preamble.Max:2*preamble.Max], want, source, dest, &found, a.idOf(slot, s))
}

// appendHeader writes a header to b. TLVs that came with the client's are passed on but for
// those that are made anew.
func appendHeader(b []byte, want *pool.SendProxy, source, dest netip.AddrPort, found *answer, id journal.ID) []byte {
	if want.Version == 1 {
		return preamble.Append1(b, source, dest)
	}
	b = preamble.Append2(b, source, dest)
	name, protocol := found.hello.Name(), found.hello.FirstALPN()
	if !want.Authority {
		name = nil
	}
	if !want.ALPN {
		protocol = nil
	}
	if want.PassOn {
		for rest := found.header.TLVs; len(rest) > 0; {
			kind, value, after, _ := preamble.NextTLV(rest)
			rest = after
			switch {
			case kind == preamble.TypeCRC32C || kind == preamble.TypeNoop,
				kind == preamble.TypeUniqueID && want.UniqueID,
				kind == preamble.TypeAuthority && len(name) > 0,
				kind == preamble.TypeALPN && len(protocol) > 0:
			default:
				b = preamble.AppendTLV(b, kind, value)
			}
		}
	}
	if len(protocol) > 0 {
		b = preamble.AppendTLV(b, preamble.TypeALPN, protocol)
	}
	if len(name) > 0 {
		b = preamble.AppendTLV(b, preamble.TypeAuthority, name)
	}
	if want.UniqueID {
		var text [64]byte
		b = preamble.AppendTLV(b, preamble.TypeUniqueID, id.AppendText(text[:0]))
	}
	for i := range want.Own {
		b = preamble.AppendTLV(b, want.Own[i].Type, want.Own[i].Value)
	}
	return preamble.Finish2(b, want.Checksum)
}
