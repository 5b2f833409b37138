package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestMaxSessions lets many clients ask several acceptors at once for few places: no
// more are served than there are, all are taken, and one that comes free is taken again.
func TestMaxSessions(t *testing.T) {
	const limit, clients = 25, 100
	for name, set := range map[string]func(*setup){
		"listener": func(o *setup) { o.listener().MaxSessions = limit },
		"all":      func(o *setup) { o.plan.MaxSessions = limit },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, set, func(o *setup) { o.acceptors = 4 })
			go s.greetAll()
			var held []net.Conn
			asked := make(chan net.Conn)
			for range clients {
				go func() { asked <- s.tryHello() }()
			}
			for range clients {
				if c := <-asked; c != nil {
					held = append(held, c)
				}
			}
			if len(held) > limit {
				t.Fatalf("%d sessions, the limit is %d", len(held), limit)
			}
			for len(held) < limit { // acceptors that met at the last place may have refused it all
				c := s.tryHello()
				if c == nil {
					t.Fatalf("refused with %d of %d places taken and no other asking", len(held), limit)
				}
				held = append(held, c)
			}
			if s.tryHello() != nil {
				t.Error("one too many was served")
			}
			held[0].Close()
			waitFor(t, "a place to come free", func() bool { return s.total(sessions) == limit-1 })
			if s.tryHello() == nil {
				t.Error("the place that came free was refused")
			}
		})
	}
}

// greetAll is a backend that says a byte to each client and waits for the end.
func (s *service) greetAll() {
	for c := range s.conns {
		go func() {
			defer c.Close()
			_, _ = c.Write([]byte{'!'})
			_, _ = io.Copy(io.Discard, c)
		}()
	}
}

// tryHello asks for a session and returns nil if it is refused; the backend's byte
// says that one was given.
func (s *service) tryHello() net.Conn {
	c, err := net.DialTimeout("tcp", s.addresses[0], deadline)
	if err == nil {
		s.t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(deadline))
		_, err = c.Read(make([]byte, 1))
	}
	switch {
	case err == nil:
		return c
	case !errors.Is(err, syscall.ECONNRESET):
		s.t.Error(err)
	}
	return nil
}
