package admin

import (
	"net"
	"strings"
	"testing"
	"time"
)

// 200 clients keep their connections: all are answered, some lose their place, and
// a new one finds one.
func TestIdleOnesKeepNobodyOut(t *testing.T) {
	r := start(t, Options{}, nil)
	for range 200 {
		c := r.dial()
		c.send(request("/livez"))
		if status, _ := c.answer(); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	r.well()
	r.onTCP.mu.Lock()
	held := len(r.onTCP.all)
	r.onTCP.mu.Unlock()
	if held > defaultMaxConns {
		t.Errorf("%d connections are held", held)
	}
	if shed := r.Shed(); shed < 200-defaultMaxConns || shed > 201 {
		t.Errorf("%d shed", shed)
	}
}

func TestIdleOnesAreClosed(t *testing.T) {
	r := start(t, Options{}, func(s *Server) { s.tcp.IdleTimeout = 20 * time.Millisecond })
	c := r.dial()
	c.send(request("/livez"))
	c.answer()
	c.closed()
}

// 200 clients send a part of a request, or nothing.
func TestHalfSent(t *testing.T) {
	for _, part := range []string{"", "GET /livez HTTP/1.1\r\nHo", "GET /livez HTTP/1.1\r\nHost: x\r\n"} {
		r := start(t, Options{}, nil)
		for range 200 {
			r.dial().send(part)
		}
		r.well()
	}
	r := start(t, Options{}, func(s *Server) { s.tcp.ReadHeaderTimeout = 20 * time.Millisecond })
	c := r.dial()
	c.send("GET /livez HTTP/1.1\r\nHo")
	c.closed()
}

// A client reads a byte at a time, others nothing at all, all of answers that fit into
// no buffer. Others are answered, and in the end the slow ones are cut.
func TestSlowReaders(t *testing.T) {
	for _, page := range []string{"/status.json", "/metrics"} {
		t.Run(page, func(t *testing.T) {
			r := start(t, Options{Snapshot: large, MaxConns: 8}, func(s *Server) { s.tcp.WriteTimeout = 500 * time.Millisecond })
			var silent []*client
			for range 4 {
				silent = append(silent, r.silent(page))
			}
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := silent[0].Read(b); err != nil {
						return
					}
				}
			}()
			eventually(t, "all are being answered", func() bool {
				r.onTCP.mu.Lock()
				defer r.onTCP.mu.Unlock()
				return r.onTCP.answering.Len() == len(silent)
			})
			r.well()
			eventually(t, "the slow ones are cut", func() bool {
				r.onTCP.mu.Lock()
				defer r.onTCP.mu.Unlock()
				return len(r.onTCP.all) == 0
			})
			r.well()
		})
	}
}

// All places are taken by clients that read nothing: a new one is closed at once, and
// once they have been answered for long enough it takes the place of one of them.
func TestAllPlacesAreAnswering(t *testing.T) {
	r := start(t, Options{Snapshot: large, MaxConns: 3}, func(s *Server) { s.onTCP.patience = time.Hour })
	for range 3 {
		r.silent("/status.json")
	}
	eventually(t, "all are being answered", func() bool {
		r.onTCP.mu.Lock()
		defer r.onTCP.mu.Unlock()
		return r.onTCP.answering.Len() == 3
	})
	r.dial().closed()
	if r.Shed() != 1 {
		t.Errorf("%d shed, want 1", r.Shed())
	}
	r.onTCP.mu.Lock()
	r.onTCP.patience = time.Nanosecond
	r.onTCP.mu.Unlock()
	r.well()
	if r.Shed() != 2 {
		t.Errorf("%d shed, want 2", r.Shed())
	}
}

func TestHeadAndBodyAreBounded(t *testing.T) {
	r := start(t, Options{}, nil)
	c := r.dial()
	c.send(request("/livez", "X: "+strings.Repeat("x", 2*maxHead)))
	if status, _ := c.answer(); status != 431 {
		t.Errorf("a large head: status %d", status)
	}
	for _, header := range []string{"Content-Length: 1000000", "Content-Length: 1", "Transfer-Encoding: chunked"} {
		c := r.dial()
		c.send(request("/livez", header))
		if status, _ := c.answer(); status != 413 {
			t.Errorf("%s: status %d", header, status)
		}
		c.Conn.(*net.TCPConn).CloseWrite()
		c.closed()
	}
	r.well()
}

// The body that never comes does not hold its place for ever.
func TestBodyThatNeverComes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes headWithin, 5 s")
	}
	r := start(t, Options{}, nil)
	c := r.dial()
	c.send(request("/livez", "Content-Length: 1"))
	c.answer()
	c.closed()
}

// At the end silent clients delay nothing, and no figures are taken any more.
func TestClose(t *testing.T) {
	r := start(t, Options{Snapshot: large}, nil)
	idle, half := r.dial(), r.dial()
	idle.send(request("/livez"))
	idle.answer()
	half.send("GET /l")
	began := time.Now()
	ctx := t.Context()
	r.Close(ctx)
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("closing took %v", d)
	}
	if _, err := r.figures.snapshots.get(ctx); err != errClosed {
		t.Errorf("a snapshot after the end: %v", err)
	}
}
