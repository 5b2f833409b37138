package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// asked runs one check of a server.
func asked(t *testing.T, addr string, change func(*config.Pool)) outcome {
	t.Helper()
	p := config.DefaultPool("app")
	p.Health.Timeout = 5 * time.Second
	change(&p)
	a := netip.MustParseAddrPort(addr)
	c, target := newCheck(p, nil, (*exec.Cmd).Run), pool.Target{Backend: addr, Addr: a, Weight: 1}
	if c.connects() {
		return connected(t, c, a)
	}
	return c.probe(t.Context(), target)
}

// connected runs one check that only connects.
func connected(t *testing.T, c *check, addr netip.AddrPort) outcome {
	t.Helper()
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer running.Wait()
	defer stop()
	found := make(chan error, 1)
	newConnects(ctx, &running).begin([]*connect{{check: c, to: addr, done: func(_ time.Time, err error) { found <- err }}})
	err := <-found
	return outcome{err: err, failure: classify(err)}
}

func well(t *testing.T, o outcome) {
	t.Helper()
	if o.err != nil {
		t.Errorf("%v (%s)", o.err, o.failure)
	}
}

// fails wants a failure of a class, with a text in its error.
func fails(t *testing.T, o outcome, want metrics.CheckFailure, text string) {
	t.Helper()
	if o.err == nil || o.failure != want || !strings.Contains(o.err.Error(), text) {
		t.Errorf("%v (%s), want %s with %q", o.err, o.failure, want, text)
	}
}

// server serves each connection by a function, and closes it.
func server(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln.Addr().String()
}

// silent reads and says nothing.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// answers is a server that says something once it has read a line of that length.
func answers(t *testing.T, read int, parts ...string) (addr string) {
	return server(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, read)); err != nil {
			return
		}
		for _, part := range parts {
			_, _ = io.WriteString(c, part)
			time.Sleep(5 * time.Millisecond) // so that they come one by one
		}
		silent(c)
	})
}

func kind(check string) func(*config.Pool) {
	return func(p *config.Pool) { p.Health.Check = check }
}

func TestTCP(t *testing.T) {
	up := server(t, silent)
	well(t, asked(t, up, kind(config.CheckTCP)))
	well(t, asked(t, "127.0.0.1:1", func(p *config.Pool) {
		p.Health.Check, p.Health.Port = config.CheckTCP, int(netip.MustParseAddrPort(up).Port())
	}))
	well(t, asked(t, up, func(p *config.Pool) {
		p.Health.Check, p.Source = config.CheckTCP, []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	fails(t, asked(t, ln.Addr().String(), kind(config.CheckTCP)), metrics.CheckRefused, "refused")
}

func TestSendExpect(t *testing.T) {
	script := func(send, expect string) func(*config.Pool) {
		return func(p *config.Pool) {
			p.Health.Check, p.Health.Send, p.Health.Expect, p.Health.Timeout = config.CheckTCP, send, expect, 300*time.Millisecond
		}
	}
	well(t, asked(t, answers(t, 6, "+PO", "NG\r\n"), script("PING\r\n", "re:^[+]PONG\r\n")))
	well(t, asked(t, answers(t, 2, "a\xff\x00b"), script("hex:0102", "hex:ff00")))
	well(t, asked(t, answers(t, 0, "220 mail ready\r\n"), script("", "220 ")))
	fails(t, asked(t, answers(t, 6, "-ERR no\r\n"), script("PING\r\n", "re:^[+]PONG")), metrics.CheckAnswer, "-ERR no")
	fails(t, asked(t, server(t, func(c net.Conn) { _, _ = io.WriteString(c, "554 no") }), script("", "220")), metrics.CheckAnswer, "554 no")
	fails(t, asked(t, server(t, silent), script("PING\r\n", "PONG")), metrics.CheckTimeout, "timeout")
	fails(t, asked(t, server(t, func(net.Conn) {}), script("", "PONG")), metrics.CheckReset, "")
	endless := server(t, func(c net.Conn) {
		for {
			if _, err := c.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	fails(t, asked(t, endless, func(p *config.Pool) {
		p.Health.Check, p.Health.Expect = config.CheckTCP, "PONG"
	}), metrics.CheckAnswer, "begins with")
}

func TestPresets(t *testing.T) {
	for check, talk := range map[string]struct {
		read      int
		good, bad string
	}{
		config.CheckPostgres: {8, "S", "EFATAL"},
		config.CheckMySQL:    {0, "\x4a\x00\x00\x00\x0a8.0.36\x00", "\x10\x00\x00\x00\xff\x10\x04Too many"},
		config.CheckRedis:    {6, "+PONG\r\n", "-LOADING\r\n"},
	} {
		soon := func(p *config.Pool) { p.Health.Check, p.Health.Timeout = check, 300*time.Millisecond }
		well(t, asked(t, answers(t, talk.read, talk.good), kind(check)))
		fails(t, asked(t, answers(t, talk.read, talk.bad), soon), metrics.CheckAnswer, "the answer is")
	}
}

// With a user the database must let a login begin: one that starts up answers an SSLRequest, too.
func TestPostgresLogin(t *testing.T) {
	const login = "\x00\x00\x00\x14\x00\x03\x00\x00user\x00check\x00\x00"
	for answer, want := range map[string]bool{
		"R\x00\x00\x00\x08\x00\x00\x00\x00":                                                      true, // trust
		"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00":                                 true,
		"E\x00\x00\x00\x40SFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00": false,
	} {
		left := make(chan error, 1)
		addr := server(t, func(c net.Conn) {
			asked := make([]byte, len(login))
			if _, err := io.ReadFull(c, asked); err != nil || string(asked) != login {
				left <- fmt.Errorf("it is asked %q: %v", asked, err)
				return
			}
			_, _ = io.WriteString(c, answer)
			if want { // the client ends, in order
				_, err := io.Copy(io.Discard, c)
				left <- err
			}
		})
		o := asked(t, addr, func(p *config.Pool) { p.Health.Check, p.Health.User = config.CheckPostgres, "check" })
		if !want {
			fails(t, o, metrics.CheckAnswer, "starting up")
			continue
		}
		well(t, o)
		if err := <-left; err != nil {
			t.Error(err)
		}
	}
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.String() == "/well?full=1" && r.Host == "app.example" && r.Method == "GET" && r.UserAgent() == "sluice":
			_, _ = io.WriteString(w, "all is well")
		case r.Method == "HEAD":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	get := func(change func(*config.Health)) func(*config.Pool) {
		return func(p *config.Pool) {
			p.Health.Check, p.Health.Path, p.Health.Host = config.CheckHTTP, "/well?full=1", "app.example"
			change(&p.Health)
		}
	}
	well(t, asked(t, addr, get(func(h *config.Health) {})))
	well(t, asked(t, addr, get(func(h *config.Health) { h.Body = "(?i)ALL IS (well|fine)" })))
	well(t, asked(t, addr, get(func(h *config.Health) { h.Method, h.Status = "HEAD", "204" })))
	well(t, asked(t, addr, get(func(h *config.Health) { h.Path, h.Status = "/", "503" })))
	fails(t, asked(t, addr, get(func(h *config.Health) { h.Path = "/" })), metrics.CheckStatus, "503")
	fails(t, asked(t, addr, get(func(h *config.Health) { h.Body = "ill" })), metrics.CheckAnswer, "all is well")
	fails(t, asked(t, answers(t, 4, "SSH-2.0-x\r\n\r\n"), get(func(h *config.Health) {})), metrics.CheckAnswer, "malformed")
	fails(t, asked(t, server(t, silent), get(func(h *config.Health) { h.Timeout = 100 * time.Millisecond })), metrics.CheckTimeout, "timeout")
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.ServerName)
	}))
	s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	s.StartTLS()
	defer s.Close()
	addr := s.Listener.Addr().String()
	hello := func(check string, change func(*config.Health)) func(*config.Pool) {
		return func(p *config.Pool) {
			p.Health.Check, p.Health.Verify, p.Health.ServerName = check, false, "example.com"
			change(&p.Health)
		}
	}
	o := asked(t, addr, hello(config.CheckTLS, func(h *config.Health) { h.ALPN = "h3,http/1.1" }))
	well(t, o)
	if want := s.Certificate().NotAfter; !o.certificate.Equal(want) {
		t.Errorf("the certificate expires at %v, want %v", o.certificate, want)
	}
	well(t, asked(t, addr, hello(config.CheckHTTPS, func(h *config.Health) { h.Body = "^example.com$" })))
	unknown := asked(t, addr, hello(config.CheckTLS, func(h *config.Health) { h.Verify = true }))
	fails(t, unknown, metrics.CheckTLS, "unknown authority")
	if unknown.certificate.IsZero() {
		t.Error("of a certificate that is not valid it is not said when it expires")
	}
	fails(t, asked(t, addr, hello(config.CheckTLS, func(h *config.Health) { h.ALPN = "imap" })), metrics.CheckTLS, "")
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	fails(t, asked(t, plain.Listener.Addr().String(), hello(config.CheckTLS, func(h *config.Health) {})), metrics.CheckTLS, "")
}

// A Keeper that ends breaks off its checks.
func TestCloseBreaksOff(t *testing.T) {
	addr := server(t, silent)
	begun := make(chan struct{})
	k := newWorld(t, 1).Keeper
	k.probe = func(ctx context.Context, c *check, t pool.Target) outcome {
		close(begun)
		return c.probe(ctx, t)
	}
	p := poolOf(0, 1, func(c *config.Pool) {
		c.Health.Expect, c.Health.Timeout, c.Health.Interval = "x", time.Minute, time.Hour
	})
	p.Targets[0].Addr = netip.MustParseAddrPort(addr)
	k.Commit([]Pool{p})
	<-begun
	begin := time.Now()
	k.Close()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
