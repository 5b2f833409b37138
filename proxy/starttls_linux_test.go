package proxy

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
	"sluice/proxy/preamble"
)

const (
	sslRequest = preamble.SSLRequest
	gssRequest = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	startup    = "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00"
)

// postgres has a listener answer PostgreSQL's clients.
func postgres(p *Plan) {
	p.Listeners[0].Preamble = Preamble{Postgres: true, Timeout: time.Second, Routes: []Route{{Name: "a", Pool: appID, SNI: []string{"a.example"}}}}
}

// startTLS plays a client that sends parts, each after what it was answered, up to the dial.
func startTLS(t *testing.T, w *world, parts ...string) *session {
	t.Helper()
	_, s := w.accept()
	f := w.at(int(s.fd[client]))
	for _, part := range parts {
		f.in = append(f.in, part...)
		w.turn(w.on(s.fd[client], epollIn|epollOut))
	}
	if s.state != stateDialing {
		t.Fatalf("state %d after %q, want dialing", s.state, f.out)
	}
	return s
}

// upgradingSession has asked its backend for TLS, and its client still lies in the socket.
func upgradingSession(w *world) *session {
	postgres(w.plan)
	w.apply(w.plan.Renewed())
	s := startTLS(w.t, w, sslRequest, string(helloFor(w.t, &tls.Config{ServerName: "a.example"})))
	w.turn(w.on(s.fd[backend], epollOut))
	return s
}

// A client is answered, and its backend asked, byte for byte as they would do it alone.
func TestStartTLS(t *testing.T) {
	hello := string(helloFor(t, &tls.Config{ServerName: "a.example"}))
	for name, c := range map[string]struct {
		sent, answers, asked, payload string
	}{
		"TLS":                {sslRequest + hello, "S", sslRequest, hello},
		"GSSAPI, then TLS":   {gssRequest + sslRequest + hello, "NS", sslRequest, hello},
		"GSSAPI, then plain": {gssRequest + startup, "N", "", startup},
		"plain":              {startup, "", "", startup},
		"TLS at once":        {hello, "", "", hello},
	} {
		for _, header := range []string{"", v1Line} {
			for _, parts := range [][]string{{header + c.sent}, strings.Split(header+c.sent, "")} {
				w := newWorld(t, postgres)
				if header != "" {
					w.plan.Listeners[0].Preamble.Proxy, w.plan.Listeners[0].Preamble.From = ProxyRequired, everywhere
					introducing(w.plan)
				}
				w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
				w.apply(w.plan.Renewed())
				s := startTLS(t, w, parts...)
				from, to := w.at(int(s.fd[client])), w.at(int(s.fd[backend]))
				w.turn(w.on(s.fd[backend], epollOut))
				if got := string(to.out); c.asked != "" && (!strings.HasSuffix(got, c.asked) || s.state != stateUpgrading) {
					t.Fatalf("%s: the backend was asked %q in state %d", name, got, s.state)
				}
				if c.asked != "" {
					to.in = []byte("Sanswer")
					w.turn(w.on(s.fd[backend], epollIn|epollOut))
				}
				if got := string(to.out); !strings.HasSuffix(got, c.asked+c.payload) || header == "" && got != c.asked+c.payload {
					t.Errorf("%s: the backend got %q", name, got)
				}
				want := c.answers
				if c.asked != "" {
					want += "answer"
				}
				if got := string(from.out); got != want {
					t.Errorf("%s: the client got %q, want %q", name, got, want)
				}
				if got := w.a.web().Received[metrics.PathCopy].Load(); got != uint64(len(c.payload)) {
					t.Errorf("%s: %d bytes are counted, want %d", name, got, len(c.payload))
				}
				w.settled()
			}
		}
	}
}

// What a client that has been answered may do.
func TestStartTLSRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		eof  bool
		want string
	}{
		"no TLS":                   {sslRequest + startup, false, "hello_malformed"},
		"a hello that is none":     {sslRequest + "\x16\x03\x01\x00\x01\x02", false, "hello_malformed"},
		"silence":                  {sslRequest, false, "preamble_timeout"},
		"silence after GSSAPI":     {gssRequest, false, "preamble_timeout"},
		"half a request":           {sslRequest[:7], false, "preamble_timeout"},
		"asks and leaves":          {sslRequest, true, "client_eof"},
		"asks for GSSAPI, leaves":  {gssRequest, true, "client_eof"},
		"half a hello, and leaves": {sslRequest + "\x16\x03\x01", true, "hello_malformed"},
		"half a request, leaves":   {sslRequest[:7], true, ""},
		"too much":                 {sslRequest + "\x16\x03\x01\x40\x00\x01\x00\x3f\xf0" + strings.Repeat("x", preamble.Max), false, "hello_malformed"},
	} {
		w := newWorld(t, postgres)
		_, s := w.accept()
		f := w.at(int(s.fd[client]))
		f.in, f.eof = []byte(c.sent), c.eof
		events := uint32(epollIn | epollOut)
		if c.eof {
			events |= epollRdhup
		}
		w.turn(w.on(s.fd[client], events))
		if c.want == "preamble_timeout" {
			w.pass(900 * time.Millisecond)
			if got := w.ended(); got != "" {
				t.Errorf("%s: ended by %q before its time", name, got)
			}
			w.pass(300 * time.Millisecond)
		}
		if got := w.ended(); got != c.want {
			t.Errorf("%s: ended by %q, want %q", name, got, c.want)
		}
		w.settled()
	}
}

// What a backend that is asked for TLS may do.
func TestUpgradeRefusals(t *testing.T) {
	hello := string(helloFor(t, &tls.Config{ServerName: "a.example"}))
	for name, c := range map[string]struct {
		answer string
		events uint32
		eof    bool
		err    syscall.Errno
		want   string
	}{
		"no":               {"N", epollIn, false, 0, "starttls_refused"},
		"an error":         {"E\x00\x00\x00\x10SFATAL\x00", epollIn, false, 0, "starttls_refused"},
		"closed":           {"", epollIn | epollRdhup, true, 0, "starttls_refused"},
		"broken":           {"", epollIn | epollErr | epollHup, false, syscall.ECONNRESET, "backend_reset"},
		"yes, then broken": {"S", epollIn | epollErr | epollHup, false, syscall.ECONNRESET, "backend_reset"},
		"nothing":          {"", 0, false, 0, "starttls_timeout"},
		"the client goes":  {"", 0, false, syscall.ECONNRESET, "client_reset"},
	} {
		w := newWorld(t, postgres, func(p *Plan) { p.Pools[0].Ejection = pool.Ejection{Early: time.Second, EarlyCloses: 1, MaxShare: 1} })
		s := startTLS(t, w, sslRequest+hello)
		w.turn(w.on(s.fd[backend], epollOut))
		to := w.at(int(s.fd[backend]))
		to.in, to.eof, to.err = []byte(c.answer), c.eof, c.err
		switch {
		case name == "the client goes":
			w.turn(w.on(s.fd[client], epollErr|epollHup))
		case c.events == 0:
			w.pass(900 * time.Millisecond)
			if got := w.ended(); got != "" {
				t.Errorf("%s: ended by %q before connect_timeout", name, got)
			}
			w.pass(300 * time.Millisecond)
		default:
			w.turn(w.on(s.fd[backend], c.events))
		}
		if got := w.ended(); got != c.want {
			t.Errorf("%s: ended by %q, want %q", name, got, c.want)
		}
		if ejected := w.a.Board.Target(0, metrics.NewID(0, 1)).Ejected[metrics.EjectEarlyClose].Load(); (ejected > 0) != (c.want != "client_reset") {
			t.Errorf("%s: the backend was ejected %d times", name, ejected)
		}
		w.settled()
	}
}

// Each write and read of both answers may have to be done again, and may come in parts.
func TestStartTLSInParts(t *testing.T) {
	hello := string(helloFor(t, &tls.Config{ServerName: "a.example"}))
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.EINTR} {
		for room := range 10 {
			w := newWorld(t, postgres)
			w.faults["write"], w.faults["peek"] = []syscall.Errno{errno, errno}, []syscall.Errno{syscall.EINTR}
			_, s := w.accept()
			from := w.at(int(s.fd[client]))
			from.in, from.room = []byte(gssRequest+sslRequest+hello), 1
			for range 4 {
				w.turn(w.on(s.fd[client], epollOut|epollIn))
				from.room = max(from.room, 1)
			}
			from.room = 1 << 20
			w.turn(w.on(s.fd[client], epollOut))
			if string(from.out) != "NS" || s.state != stateDialing {
				t.Fatalf("%v: the client was told %q in state %d", errno, from.out, s.state)
			}
			to := w.at(int(s.fd[backend]))
			to.room = room
			w.faults["write"] = []syscall.Errno{errno}
			w.turn(w.on(s.fd[backend], epollOut))
			for range 20 {
				to.room++
				w.turn(w.on(s.fd[backend], epollOut))
			}
			w.faults["read"] = []syscall.Errno{errno}
			to.in, to.room = []byte("S"), 1<<20
			w.turn(w.on(s.fd[backend], epollOut|epollIn))
			w.turn(w.on(s.fd[backend], epollOut|epollIn))
			if got := string(to.out); got != sslRequest+hello {
				t.Errorf("%v, room for %d: the backend got %q", errno, room, got)
			}
			if string(from.out) != "NS" {
				t.Errorf("%v: the client got %q", errno, from.out)
			}
			w.settled()
		}
	}
}

// A reload that takes starttls, or all that is asked for, away in the middle leaves a client
// what it was told.
func TestStartTLSThroughAReload(t *testing.T) {
	hello := string(helloFor(t, &tls.Config{ServerName: "a.example"}))
	for name, change := range map[string]func(*Preamble){
		"starttls off":   func(p *Preamble) { p.Postgres = false },
		"nothing asked":  func(p *Preamble) { *p = Preamble{} },
		"PROXY required": func(p *Preamble) { p.Proxy, p.From = ProxyRequired, everywhere },
	} {
		w := newWorld(t, postgres)
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		_, s := w.accept()
		from := w.at(int(s.fd[client]))
		from.in = []byte(sslRequest)
		w.turn(w.on(s.fd[client], epollIn|epollOut))
		plan := w.plan.Renewed()
		change(&plan.Listeners[0].Preamble)
		w.apply(plan)
		from.in = append(from.in, hello...)
		w.turn(w.on(s.fd[client], epollIn|epollOut))
		if s.state != stateDialing {
			t.Fatalf("%s: state %d, ended by %q", name, s.state, w.ended())
		}
		to := w.at(int(s.fd[backend]))
		w.turn(w.on(s.fd[backend], epollOut))
		to.in = []byte("S")
		w.turn(w.on(s.fd[backend], epollIn|epollOut))
		if string(to.out) != sslRequest+hello || string(from.out) != "S" {
			t.Errorf("%s: the backend got %q, the client %q", name, to.out, from.out)
		}
		w.settled()
	}
}
