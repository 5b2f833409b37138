package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sluice/metrics"
	"sluice/proxy/pool"
	"sluice/proxy/preamble"
)

// introducing has the pool send a header of version 2.
func introducing(p *Plan) { p.Pools[0].SendProxy = pool.SendProxy{Version: 2} }

const v1Line = "PROXY TCP4 203.0.113.7 192.0.2.9 5000 443\r\n"

// A header may come in any number of parts. What follows it is the payload, and the
// backend is told whose it is.
func TestProxyHeaderIsTakenOff(t *testing.T) {
	want := string(preamble.Finish2(preamble.Append2(nil, netip.MustParseAddrPort("203.0.113.7:5000"), netip.MustParseAddrPort("192.0.2.9:443")), false))
	for _, parts := range [][]string{{v1Line + "payload"}, {v1Line, "payload"}, strings.Split(v1Line+"payload", "")} {
		w := newWorld(t, required, introducing)
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		_, s := w.accept()
		f := w.at(int(s.fd[client]))
		w.turn(w.on(s.fd[client], epollOut))
		for _, part := range parts {
			f.in = append(f.in, part...)
			w.turn(w.on(s.fd[client], epollIn|epollOut))
		}
		if s.state != stateDialing {
			t.Fatalf("%d parts: state %d, want dialing", len(parts), s.state)
		}
		w.turn(w.on(s.fd[backend], epollOut))
		if got := string(w.at(int(s.fd[backend])).out); got != want+"payload" {
			t.Errorf("%d parts: the backend got %q", len(parts), got)
		}
		if got := w.a.web().Received[metrics.PathCopy].Load(); got != 7 {
			t.Errorf("%d parts: %d bytes are counted, want those of the payload", len(parts), got)
		}
		w.settled()
	}
}

// The header goes first however little the backend takes at once, and the loop is not
// woken in vain while it takes nothing.
func TestHeaderBeforeTheFirstByte(t *testing.T) {
	for room := range 40 {
		w := newWorld(t, introducing)
		w.peer = netip.MustParseAddrPort("203.0.113.7:5000")
		_, s := w.accept()
		w.at(int(s.fd[client])).in = []byte("payload")
		b := w.at(int(s.fd[backend]))
		b.room = room
		w.turn(w.on(s.fd[client], epollIn|epollOut), w.on(s.fd[backend], epollOut))
		for range 100 {
			b.room++
			w.turn(w.on(s.fd[backend], epollOut))
		}
		want := string(preamble.Finish2(preamble.Append2(nil, w.peer, w.local), false)) + "payload"
		if string(b.out) != want {
			t.Errorf("room for %d bytes: %q, want %q", room, b.out, want)
		}
		w.settled()
	}
}

// A server that speaks first gets its header before the client has said anything.
func TestHeaderForAServerThatSpeaksFirst(t *testing.T) {
	w := newWorld(t, introducing)
	w.peer = netip.MustParseAddrPort("203.0.113.7:5000")
	s, f := w.relaying()
	if len(f[backend].out) != 28 {
		t.Errorf("the backend got %q", f[backend].out)
	}
	f[backend].in = []byte("220 hello")
	w.turn(w.on(s.fd[backend], epollIn|epollOut))
	if string(f[client].out) != "220 hello" {
		t.Errorf("the client got %q", f[client].out)
	}
	w.settled()
}

// A backend that breaks as it is told is one that failed: another gets the session.
func TestHeaderIsRefused(t *testing.T) {
	w := newWorld(t, required, introducing)
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	_, s := w.accept()
	w.at(int(s.fd[client])).in = []byte(v1Line + "payload")
	w.turn(w.on(s.fd[client], epollIn|epollOut))
	first := s.fd[backend]
	w.faults["write"] = []syscall.Errno{syscall.EPIPE}
	w.turn(w.on(s.fd[backend], epollOut))
	if s.state != stateDialing || s.fd[backend] == first {
		t.Fatalf("state %d, descriptor %d after %d", s.state, s.fd[backend], first)
	}
	w.turn(w.on(s.fd[backend], epollOut))
	if got := string(w.at(int(s.fd[backend])).out); !strings.HasSuffix(got, "payload") || len(got) != 35 {
		t.Errorf("the second got %q", got)
	}
	w.settled()
}

// What goes to a backend of another proxy in between, and what it is made of.
func TestTLVsOfAHeader(t *testing.T) {
	received := preamble.Append2(nil, netip.MustParseAddrPort("203.0.113.7:5000"), netip.MustParseAddrPort("192.0.2.9:443"))
	for _, tlv := range []pool.TLV{{Type: preamble.TypeAuthority, Value: []byte("old.example")}, {Type: preamble.TypeNoop, Value: []byte("xx")}, {Type: preamble.TypeUniqueID, Value: []byte("old")}, {Type: 0xea, Value: []byte("aws")}} {
		received = preamble.AppendTLV(received, tlv.Type, tlv.Value)
	}
	received = preamble.Finish2(received, true)
	hello := helloFor(t, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}})
	for name, c := range map[string]struct {
		want pool.SendProxy
		tlvs string
	}{
		"nothing": {pool.SendProxy{}, ""},
		"passed":  {pool.SendProxy{PassOn: true}, "2=old.example 5=old 234=aws"},
		"made":    {pool.SendProxy{Authority: true, ALPN: true, UniqueID: true, Own: []pool.TLV{{Type: 0xe0, Value: []byte("rack")}}}, "1=h2 2=www.example.com 5=ID 224=rack"},
		"both":    {pool.SendProxy{PassOn: true, Authority: true, UniqueID: true, Checksum: true}, "234=aws 2=www.example.com 5=ID 3=SUM"},
	} {
		w := newWorld(t, required, func(p *Plan) { c.want.Version = 2; p.Pools[0].SendProxy = c.want })
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		_, s := w.accept()
		w.at(int(s.fd[client])).in = slices.Concat(received, hello, []byte("more"))
		w.turn(w.on(s.fd[client], epollIn|epollOut))
		id := w.a.idOf(0, s).String()
		w.turn(w.on(s.fd[backend], epollOut))
		out := w.at(int(s.fd[backend])).out
		h, need, err := preamble.ParseProxy(out)
		if need != 0 || err != nil || h.Source.String() != "203.0.113.7:5000" || h.Dest.String() != "192.0.2.9:443" {
			t.Fatalf("%s: %+v, %d, %v", name, h, need, err)
		}
		var got []string
		for rest := h.TLVs; len(rest) > 0; {
			kind, value, after, _ := preamble.NextTLV(rest)
			rest = after
			text := string(value)
			if kind == preamble.TypeCRC32C {
				text = "SUM"
			}
			got = append(got, fmt.Sprintf("%d=%s", kind, strings.ReplaceAll(text, id, "ID")))
		}
		if text := strings.Join(got, " "); text != c.tlvs {
			t.Errorf("%s: %s, want %s", name, text, c.tlvs)
		}
		if !bytes.Equal(out[h.Len:], append(hello, "more"...)) {
			t.Errorf("%s: the payload is another", name)
		}
		w.settled()
	}
}
