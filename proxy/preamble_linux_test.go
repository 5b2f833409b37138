package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/pool"
	"sluice/proxy/preamble"
)

// everywhere are all addresses.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// required has a listener ask for a PROXY header.
func required(p *Plan) {
	p.Listeners[0].Preamble = Preamble{Proxy: ProxyRequired, From: everywhere, Timeout: 5 * time.Second}
}

func optional(p *Plan) {
	required(p)
	p.Listeners[0].Preamble.Proxy = ProxyOptional
}

// introducing has the pool send a header of version 2.
func introducing(p *Plan) { p.Pools[0].SendProxy = pool.SendProxy{Version: 2} }

func preambleSession(w *world) *session {
	required(w.plan)
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	w.apply(w.plan.Renewed())
	_, s := w.accept()
	w.at(int(s.fd[client])).in = nil
	return s
}

// helloFor is the ClientHello of crypto/tls.
func helloFor(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	end, other := net.Pipe()
	defer end.Close()
	c.InsecureSkipVerify = true // nobody answers
	go func() { _ = tls.Client(end, c).Handshake() }()
	_ = other.SetDeadline(time.Now().Add(deadline))
	b := make([]byte, 64<<10)
	n, err := other.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	return b[:n]
}

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

// The header goes first however little the backend takes at once, and nobody is woken in
// vain while it takes nothing.
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

func TestPreambleRefusals(t *testing.T) {
	trusted, other := netip.MustParseAddrPort("10.1.2.3:1000"), netip.MustParseAddrPort("192.0.2.200:1000")
	routed := func(p *Plan) {
		p.Listeners[0].Preamble.Routes = []Route{{Name: "a", Pool: appID, SNI: []string{"a.example"}}}
	}
	for name, c := range map[string]struct {
		mode func(*Plan)
		peer netip.AddrPort
		sent string
		want string // reason; "" = it is served
	}{
		"a header":                       {required, trusted, v1Line, ""},
		"none":                           {required, trusted, "GET / HTTP/1.1\r\n", "proxy_missing"},
		"wrong":                          {required, trusted, "PROXY TCP4 1.2.3.4\r\n", "proxy_malformed"},
		"not from there":                 {required, other, v1Line, "proxy_untrusted"},
		"optional, a header":             {optional, trusted, v1Line, ""},
		"optional, none":                 {optional, trusted, "GET / HTTP/1.1\r\n", ""},
		"optional, wrong":                {optional, trusted, "PROXY TCP4 1.2.3.4\r\n", "proxy_malformed"},
		"optional, not from there":       {optional, other, v1Line, ""},
		"optional, late":                 {optional, trusted, "PRO", "preamble_timeout"},
		"late":                           {required, trusted, v1Line[:20], "preamble_timeout"},
		"nothing":                        {required, trusted, "", "preamble_timeout"},
		"a ClientHello that is none":     {routed, trusted, "\x16\x03\x01\x00\x01\x02", "hello_malformed"},
		"a ClientHello that is late":     {routed, trusted, "\x16\x03\x01\x00\x40\x01", "preamble_timeout"},
		"a ClientHello that is too long": {routed, trusted, "\x16\x03\x01\x40\x00\x01\x00\x3f\xff", "hello_malformed"},
		"no TLS":                         {routed, trusted, "\x00\x00\x00\x08\x04\xd2\x16\x2f", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.mode, func(p *Plan) {
				p.Listeners[0].Preamble.Timeout = time.Second
				p.Listeners[0].Preamble.From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			})
			w.peer = c.peer
			_, s := w.accept()
			if s.state == statePreamble {
				w.at(int(s.fd[client])).in = []byte(c.sent)
				w.turn(w.on(s.fd[client], epollIn|epollOut))
				if c.want == "preamble_timeout" {
					if s.state != statePreamble {
						t.Fatalf("state %d, want preamble", s.state)
					}
					turns := w.a.cells.Turns.Load()
					w.pass(900 * time.Millisecond)
					if w.ended() != "" || w.a.cells.Turns.Load()-turns > 200 {
						t.Errorf("%q after %d turns", w.ended(), w.a.cells.Turns.Load()-turns)
					}
					w.pass(300 * time.Millisecond)
				}
			}
			if got := w.ended(); got != c.want {
				t.Errorf("ended by %q, want %q", got, c.want)
			}
			if c.want == "" && s.state != stateDialing {
				t.Errorf("state %d, want dialing", s.state)
			}
			w.settled()
		})
	}
}

// A client that ends in the middle of what is asked for is not waited for.
func TestPreambleIsCutShort(t *testing.T) {
	routed := func(p *Plan) {
		p.Listeners[0].Preamble.Routes = []Route{{Name: "a", Pool: appID, SNI: []string{"a.example"}}}
	}
	for name, c := range map[string]struct {
		mode func(*Plan)
		sent string
		want string
	}{
		"a header":             {required, v1Line[:20], "proxy_malformed"},
		"perhaps a header":     {optional, v1Line[:20], ""},
		"a header alone":       {required, v1Line, ""},
		"half a ClientHello":   {routed, "\x16\x03\x01\x00\x40\x01", "hello_malformed"},
		"a byte of some thing": {routed, "x", ""},
		"nothing":              {routed, "", "client_eof"},
	} {
		w := newWorld(t, c.mode)
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		_, s := w.accept()
		f := w.at(int(s.fd[client]))
		f.in, f.eof = []byte(c.sent), true
		w.turn(w.on(s.fd[client], epollIn|epollOut|epollRdhup))
		if got := w.ended(); got != c.want || c.want == "" && s.state != stateDialing {
			t.Errorf("%s: ended by %q in state %d, want %q", name, got, s.state, c.want)
		}
		w.settled()
	}
}

// Each source that is refused is told of once a minute.
func TestRefusalsAreToldOf(t *testing.T) {
	var r refusals
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		from netip.Addr
		tick uint32
		want bool
	}{{a, 100, true}, {a, 100, false}, {b, 100, true}, {a, 100 + tellAgain - 1, false}, {a, 100 + tellAgain, true}, {b, 101, false}} {
		if got := r.isNews(c.from, c.tick); got != c.want {
			t.Errorf("%v at %d: %t", c.from, c.tick, got)
		}
	}
	w := newWorld(t, required)
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	for range 3 {
		_, s := w.accept()
		w.at(int(s.fd[client])).in = []byte("GET /")
		w.turn(w.on(s.fd[client], epollIn))
	}
	w.wantNotices(NoticeBadPreamble)
	if got := w.a.web().Closed[metrics.ReasonProxyMissing].Load(); got != 3 {
		t.Errorf("%d are counted, want 3", got)
	}
	w.settled()
}

// The client that a header tells of is the one that source_hash goes by.
func TestLearntSourceDecides(t *testing.T) {
	seen := map[uint16]bool{}
	for i := range 20 {
		addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		direct := newWorld(t, bySource)
		direct.peer = netip.AddrPortFrom(addr, 5000)
		_, s := direct.accept()
		want := s.target
		direct.settled()

		w := newWorld(t, bySource, required)
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		_, s = w.accept()
		w.at(int(s.fd[client])).in = []byte(fmt.Sprintf("PROXY TCP4 %v 192.0.2.9 5000 443\r\n", addr))
		w.turn(w.on(s.fd[client], epollIn|epollOut))
		if s.state != stateDialing || s.target != want {
			t.Errorf("%v: state %d, target %d, want %d", addr, s.state, s.target, want)
		}
		seen[want] = true
		w.settled()
	}
	if len(seen) != 2 {
		t.Errorf("all go to one target")
	}
}

// An optional header does not cost who sends none its first bytes, and a session that uses
// nothing of this is not asked for anything.
func TestNothingIsAsked(t *testing.T) {
	w := newWorld(t)
	w.relaying()
	if w.calls["peek"]+w.calls["peerAddr"] != 0 {
		t.Errorf("calls: %v", w.calls)
	}
	w.settled()
}

func TestRoutes(t *testing.T) {
	id := func(i uint32) metrics.ID { return metrics.NewID(i, 1) }
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	r := newRouter([]Route{
		{Pool: id(1), SNI: []string{"*.example.com"}},
		{Pool: id(2), SNI: []string{"www.example.com"}},
		{Pool: id(3), SNI: []string{"*.b.example.com"}},
		{Pool: id(4), SNI: []string{"www.example.com"}, ALPN: []string{"h2", "h3"}},
		{Pool: id(5), SNI: []string{"www.example.com"}, Source: prefixes("10.0.0.0/8", "2001:db8::/32")},
		{Pool: id(6), SNI: []string{"www.example.com"}, Source: prefixes("10.1.0.0/16")},
		{Pool: id(7), ALPN: []string{"postgresql"}},
		{Pool: id(8), Source: prefixes("192.0.2.0/24")},
	})
	for _, c := range []struct {
		name, alpn, source string
		want               uint32
	}{
		{"www.example.com", "", "198.51.100.1", 2},
		{"WWW.Example.COM", "", "198.51.100.1", 2},
		{"www.example.com", "h2", "198.51.100.1", 4},
		{"www.example.com", "h2", "10.1.1.1", 4},
		{"www.example.com", "http/1.1", "10.1.1.1", 6},
		{"www.example.com", "", "10.2.1.1", 5},
		{"www.example.com", "", "2001:db8::1", 5},
		{"x.example.com", "", "198.51.100.1", 1},
		{"x.y.example.com", "", "198.51.100.1", 1},
		{"x.b.example.com", "", "198.51.100.1", 3},
		{"b.example.com", "", "198.51.100.1", 1},
		{"example.com", "", "198.51.100.1", 0},
		{"notexample.com", "", "198.51.100.1", 0},
		{"example.org", "postgresql", "198.51.100.1", 7},
		{"", "postgresql", "198.51.100.1", 7},
		{"", "", "192.0.2.5", 8},
		{"", "", "198.51.100.1", 0},
		{"com", "", "198.51.100.1", 0},
	} {
		config := &tls.Config{ServerName: c.name}
		if c.alpn != "" {
			config.NextProtos = []string{c.alpn}
		}
		h, need, err := preamble.ParseHello(helloFor(t, config), nil)
		if need != 0 || err != nil {
			t.Fatal(need, err)
		}
		want := metrics.ID(0)
		if c.want > 0 {
			want = id(c.want)
		}
		source := netip.MustParseAddr(c.source)
		var got metrics.ID
		if to := r.find(&h, source); to != nil {
			got = to.Pool
		}
		if got != want {
			t.Errorf("%q, %q, %s: pool %v, want %v", c.name, c.alpn, c.source, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { r.find(&h, source) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
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

// A reload that turns everything off lets who was about to speak go on.
func TestPreambleIsTurnedOff(t *testing.T) {
	w := newWorld(t, required)
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	_, s := w.accept()
	f := w.at(int(s.fd[client]))
	f.in = []byte("PROXY")
	w.turn(w.on(s.fd[client], epollIn|epollOut))
	next := w.plan.Renewed()
	next.Listeners[0].Preamble = Preamble{}
	w.apply(next)
	f.in = append(f.in, "!"...)
	w.turn(w.on(s.fd[client], epollIn|epollOut))
	w.turn(w.on(s.fd[backend], epollOut))
	if got := string(w.at(int(s.fd[backend])).out); got != "PROXY!" {
		t.Errorf("the backend got %q", got)
	}
	w.settled()
}

// A session that is asked for all that there is costs no allocation.
func TestNoAllocationPerPreamble(t *testing.T) {
	s := start(t, func(o *setup) {
		required(o.plan)
		o.listener().Preamble.Routes = []Route{{Name: "a", Pool: appID, SNI: []string{"*.example.com"}, ALPN: []string{"h2"}, Source: everywhere}}
		o.pool().SendProxy = pool.SendProxy{Version: 2, UniqueID: true, Authority: true, ALPN: true, PassOn: true, Checksum: true}
	})
	p := newRawPeer(s)
	sent := preamble.Append2(nil, netip.MustParseAddrPort("203.0.113.7:5000"), netip.MustParseAddrPort("192.0.2.9:443"))
	sent = preamble.Finish2(preamble.AppendTLV(sent, 0xea, []byte("x")), true)
	sent = append(sent, helloFor(t, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2"}})...)
	at := uintptr(unsafe.Pointer(unsafe.SliceData(sent)))
	sessions := func(n int) {
		for range n {
			c := p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			p.call(unix.SYS_CONNECT, c, uintptr(unsafe.Pointer(&p.service)), p.length)
			p.call(unix.SYS_WRITE, c, at, 10)
			p.call(unix.SYS_WRITE, c, at+10, uintptr(len(sent)-10))
			b := p.call(unix.SYS_ACCEPT, uintptr(p.backend), 0, 0)
			p.call(unix.SYS_READ, b, uintptr(unsafe.Pointer(&p.buffer)), uintptr(len(p.buffer)))
			p.close(c, b)
		}
	}
	sessions(100)
	if n := mallocs(func() { sessions(1000) }); n > fewObjects {
		t.Errorf("%d objects for 1000 sessions", n)
	}
}

// With real sockets, over every cut of what comes in, and then through a pipe.
func TestPreambleOnRealSockets(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) {
			required(o.plan)
			introducing(o.plan)
			o.listener().Relay = relay
		})
		want := preamble.Finish2(preamble.Append2(nil, netip.MustParseAddrPort("203.0.113.7:5000"), netip.MustParseAddrPort("192.0.2.9:443")), false)
		for _, cut := range []int{1, 5, len(v1Line) - 1, len(v1Line), len(v1Line) + 3} {
			c := s.dial()
			all := v1Line + "payload"
			send(t, c, all[:cut])
			waitFor(t, "it to be looked at", func() bool { return s.total(sessions) > 0 })
			send(t, c, all[cut:])
			b := s.answered()
			expect(t, b, string(want)+"payload")
			send(t, b, "answer")
			expect(t, c, "answer")
			c.CloseWrite()
			wantEnd(t, b, "", sawFIN)
			b.Close()
			wantEnd(t, c, "", sawFIN)
		}
	})
}

// 64 MiB behind a header and a ClientHello arrive as they were sent.
func TestStreamBehindAPreamble(t *testing.T) {
	s := start(t, func(o *setup) {
		required(o.plan)
		o.listener().Preamble.Routes = []Route{{Name: "a", Pool: appID, SNI: []string{"www.example.com"}}}
	})
	c := s.dial()
	hello := helloFor(t, &tls.Config{ServerName: "www.example.com"})
	const size = 64 << 20
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	go func() {
		_, _ = c.Write(append([]byte(v1Line), hello...))
		for range size / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
		c.CloseWrite()
	}()
	b := s.answered()
	_ = b.SetReadDeadline(time.Now().Add(60 * time.Second))
	got := make([]byte, len(hello))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, hello) {
		t.Fatalf("the hello: %v", err)
	}
	n := 0
	for buffer := make([]byte, len(chunk)); ; n += len(chunk) {
		if _, err := io.ReadFull(b, buffer); err == io.EOF {
			break
		} else if err != nil || !bytes.Equal(buffer, chunk) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if n != size {
		t.Errorf("%d bytes, want %d", n, size)
	}
	b.Close()
	wantEnd(t, c, "", sawFIN)
	if s.acceptors[0].web().Received[metrics.PathSplice].Load() < size/2 {
		t.Error("it was copied")
	}
}
