package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
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
	c.InsecureSkipVerify = true // there is no answer
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

// Each source that is refused is reported once a minute.
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

// The client that a header names is the one that source_hash goes by.
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

// An optional header does not cost a client that sends none its first bytes, and a session
// that uses nothing of this is not asked for anything.
func TestNothingIsAsked(t *testing.T) {
	w := newWorld(t)
	w.relaying()
	if w.calls["peek"]+w.calls["peerAddr"] != 0 {
		t.Errorf("calls: %v", w.calls)
	}
	w.settled()
}

// A reload that turns everything off lets a client that was about to speak go on.
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
