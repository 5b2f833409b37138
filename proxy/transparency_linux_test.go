package proxy

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/proxy/internal/sys"
)

// What a server says before it throws a sender out, such as HTTP's 413, reaches the
// client although sluice finds the connection broken by writing to it.
func TestAnswerBeforeReset(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		for range 50 {
			c, b := s.pair()
			go func() {
				io.CopyN(io.Discard, b, 300<<10)
				io.WriteString(b, "too much")
				b.Close() // with unread bytes: a RST
			}()
			_, wrote := flood(c) // like any writer it may be given the error that the reader then misses
			data, read := io.ReadAll(c)
			if string(data) != "too much" || !errors.Is(errors.Join(wrote, read), syscall.ECONNRESET) {
				t.Fatalf("client got %q, writing %v, reading %v", data, wrote, read)
			}
		}
	})
}

// The same where the client has said all before the RST is found by shutdown(2).
func TestAnswerBeforeResetAtShutdown(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	f[client].eof = true
	f[backend].in, f[backend].err = []byte("too much"), syscall.ECONNRESET
	w.faults["shutdown"] = []syscall.Errno{syscall.ENOTCONN}
	w.turn(w.on(s.fd[client], epollIn|epollRdhup))
	if got := string(f[client].out); got != "too much" || w.ended() != "backend_reset" {
		t.Errorf("the client got %q, closed as %q", got, w.ended())
	}
	w.settled()
}

// A write that fails by EPIPE found a FIN before the RST: all that was said has come,
// so the client sees an end and not a RST.
func TestEndBeforeReset(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	f[client].in = []byte("more")
	f[backend].in, f[backend].eof = []byte("that is all"), true
	w.faults["write"] = []syscall.Errno{syscall.EPIPE}
	w.turn(w.on(s.fd[client], epollIn))
	if got := string(f[client].out); got != "that is all" || !f[client].shut {
		t.Errorf("the client got %q and was told the end: %v", got, f[client].shut)
	}
	w.settled()
}

// A read stops at an urgent byte and leaves what is behind it. The byte itself has no
// place in a stream and is dropped.
func TestUrgentByte(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		held := make(chan struct{})
		s := start(t, func(o *setup) {
			o.listener().Relay = relay
			o.sys = func(y *sys.Calls) { y.Connect = heldBack(y.Connect, held) }
		})
		c := s.dial()
		send(t, c, "before")
		if err := unix.Sendto(descriptor(t, c), []byte{'!'}, unix.MSG_OOB, nil); err != nil {
			t.Fatal(err)
		}
		send(t, c, "behind")
		waitFor(t, "the bytes to arrive", func() bool { return unacknowledged(t, c) == 0 })
		close(held)
		b := s.answered()
		expect(t, b, "beforebehind")
		send(t, c, " and on")
		expect(t, b, " and on")
	})
}

func unacknowledged(t *testing.T, c syscall.Conn) int {
	t.Helper()
	n, err := unix.IoctlGetInt(descriptor(t, c), unix.SIOCOUTQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A server that speaks first is heard by a client that waits.
func TestServerSpeaksFirst(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, b, "220 ready")
	expect(t, c, "220 ready")
	send(t, c, "HELO")
	expect(t, b, "HELO")
}

// A half that is done does not hurry the other one: without a limit there is none.
func TestHalfClosedGoesOn(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	c.CloseWrite()
	wantEnd(t, b, "", sawFIN)
	waitFor(t, "the half to be counted", func() bool { return s.acceptors[0].web().HalfClosed.Load() == 1 })
	for range 5 {
		<-time.After(tickLength)
		send(t, b, "still here")
		expect(t, c, "still here")
	}
}
