package proxy

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

// Each close reason that the data plane gives is reached once, with real sockets,
// and the client sees what it should.

func TestReasonClientEOF(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, c, "question")
	c.CloseWrite()
	wantEnd(t, b, "question", sawFIN)
	send(t, b, "answer")
	b.Close()
	wantEnd(t, c, "answer", sawFIN)
	s.closed(metrics.ReasonClientEOF, 1)
}

func TestReasonBackendEOF(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, b, "greeting")
	b.CloseWrite()
	wantEnd(t, c, "greeting", sawFIN)
	send(t, c, "late words")
	c.Close()
	wantEnd(t, b, "late words", sawFIN)
	s.closed(metrics.ReasonBackendEOF, 1)
}

func TestReasonClientReset(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, c, "half a request")
	expect(t, b, "half a request")
	abortConn(t, c)
	wantEnd(t, b, "", sawRST)
	s.closed(metrics.ReasonClientReset, 1)
}

func TestReasonBackendReset(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	send(t, b, "half an answer")
	expect(t, c, "half an answer")
	abortConn(t, b)
	wantEnd(t, c, "", sawRST)
	s.closed(metrics.ReasonBackendReset, 1)
}

// What a side sent before its RST arrives before the RST.
func TestResetAfterData(t *testing.T) {
	held := make(chan struct{})
	s := start(t, func(o *setup) {
		o.sys = func(y *sys.Calls) { y.Connect = heldBack(y.Connect, held) }
	})
	c := s.dial()
	send(t, c, "last words")
	waitFor(t, "the session", func() bool { return s.total(sessions) == 1 })
	close(held) // the loop now finds data and no end
	b := s.answered()
	expect(t, b, "last words")
	abortConn(t, c)
	wantEnd(t, b, "", sawRST)
	s.closed(metrics.ReasonClientReset, 1)
}

func TestReasonConnectFailed(t *testing.T) {
	s := start(t, func(o *setup) { o.pool().Targets[0].Addr = nobody(t) })
	s.wantRefused()
	s.closed(metrics.ReasonConnectFailed, 1)
}

func TestReasonConnectTimeout(t *testing.T) {
	s := start(t, func(o *setup) {
		o.pool().Targets[0].Addr = silent(t)
		o.pool().Targets = append(o.pool().Targets, targetAt(1, o.pool().Targets[0].Addr))
		o.pool().ConnectTimeout = 100 * time.Millisecond
		o.pool().Retries = 1
	})
	begin := time.Now()
	wantEnd(t, s.dial(), "", sawRST)
	if d := time.Since(begin); d < 200*time.Millisecond {
		t.Errorf("two tries of 100ms ended after %v", d)
	}
	s.closed(metrics.ReasonConnectTimeout, 1)
}

func TestReasonNoBackend(t *testing.T) {
	s := start(t, func(o *setup) { o.pool().Targets = nil })
	s.wantRefused()
	s.closed(metrics.ReasonNoBackend, 1)
}

func TestReasonIdleTimeout(t *testing.T) {
	const limit = 600 * time.Millisecond
	s := start(t, func(o *setup) { o.listener().IdleTimeout = limit })
	c, b := s.pair()
	begin := time.Now()
	for i := range 6 { // either half moving puts it off
		<-time.After(limit / 4)
		from, to := c, b
		if i%2 == 1 {
			from, to = b, c
		}
		begin = time.Now()
		send(t, from, ".")
		expect(t, to, ".")
	}
	wantEnd(t, c, "", sawFIN)
	notEarly(t, begin, limit)
	wantEnd(t, b, "", sawFIN)
	s.closed(metrics.ReasonIdleTimeout, 1)
}

// Bytes that are still held would be lost, so a session that does not move because
// its client does not read is cut.
func TestIdleWithHeldBytesIsCut(t *testing.T) {
	s := start(t, func(o *setup) { o.listener().IdleTimeout = 300 * time.Millisecond })
	c, b := s.pair()
	_ = b.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	flood(b)
	s.closed(metrics.ReasonIdleTimeout, 1)
	if _, end := rest(t, c); end != sawRST {
		t.Errorf("client saw %s", end)
	}
}

func TestReasonHalfClosed(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := start(t, func(o *setup) { o.listener().HalfClosedTimeout = limit })
	c, b := s.pair()
	<-time.After(limit * 2) // no limit while both halves are open
	begin := time.Now()
	c.CloseWrite()
	wantEnd(t, b, "", sawFIN)
	wantEnd(t, c, "", sawFIN)
	notEarly(t, begin, limit)
	s.closed(metrics.ReasonHalfClosed, 1)
}

func TestReasonMaxDuration(t *testing.T) {
	const limit, jitter, n = 600 * time.Millisecond, 0.5, 20
	s := start(t, func(o *setup) {
		o.listener().MaxDuration = limit
		o.listener().MaxDurationJitter = jitter
	})
	lived := make(chan time.Duration, n)
	for range n {
		begin := time.Now()
		c, _ := s.pair()
		go func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("client saw %v", err)
			}
			lived <- time.Since(begin)
		}()
	}
	shortest, longest := time.Hour, time.Duration(0)
	for range n {
		d := <-lived
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < time.Duration(float64(limit)*(1-jitter)) || longest-shortest < 2*tickLength {
		t.Errorf("sessions lived %v to %v, want them spread over %v of %v", shortest, longest, jitter, limit)
	}
	s.closed(metrics.ReasonMaxDuration, n)
}

func TestReasonFirstByte(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := start(t, func(o *setup) { o.listener().FirstByteTimeout = limit })
	spoke, _ := s.pair()
	send(t, spoke, ".")
	begin := time.Now()
	silent, b := s.pair()
	send(t, b, "server first")
	wantEnd(t, silent, "server first", sawFIN)
	notEarly(t, begin, limit)
	s.closed(metrics.ReasonFirstByte, 1)
	if n := s.total(sessions); n != 1 {
		t.Errorf("%d sessions go on, want the one that has spoken", n)
	}
}

func TestReasonDrainDeadline(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	s.enter(PhaseClosed)
	send(t, c, "going on")
	expect(t, b, "going on")
	s.enter(PhaseCut)
	wantEnd(t, c, "", sawRST)
	wantEnd(t, b, "", sawRST)
	s.closed(metrics.ReasonDrainDeadline, 1)
}

// A session that runs when Close comes is cut as a fault: it was not drained before.
func TestReasonInternalOnClose(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	s.acceptors[0].Close()
	wantEnd(t, c, "", sawRST)
	wantEnd(t, b, "", sawRST)
	s.closed(metrics.ReasonInternal, 1)
}

func sessions(c *metrics.AcceptorCells) int64 { return c.Sessions.Load() }

func notEarly(t *testing.T, begin time.Time, limit time.Duration) {
	t.Helper()
	if d := time.Since(begin); d < limit {
		t.Errorf("ended after %v, before its limit of %v", d, limit)
	}
}

// flood writes until c fails or its write deadline comes.
func flood(c net.Conn) (written int, err error) {
	for block := make([]byte, 256<<10); ; {
		n, err := c.Write(block)
		written += n
		if err != nil {
			return written, err
		}
	}
}

// heldBack makes connect wait for held to be closed.
func heldBack(connect func(int, netip.AddrPort) syscall.Errno, held chan struct{}) func(int, netip.AddrPort) syscall.Errno {
	return func(fd int, to netip.AddrPort) syscall.Errno { <-held; return connect(fd, to) }
}

// nobody is an address where connections are refused: a socket holds the port and
// does not listen.
func nobody(t testing.TB) netip.AddrPort {
	t.Helper()
	_, at := boundSocket(t)
	return at
}

// silent is an address that does not answer a SYN: a listening socket whose accept
// queue is full.
func silent(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, at := boundSocket(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", at.String(), deadline) // a backlog of 0 has room for one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return at
}

func boundSocket(t testing.TB) (int, netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	calls := sys.Linux()
	return fd, calls.LocalAddr(fd)
}
