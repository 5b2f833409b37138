package proxy

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The connection to a backend gets what the Plan says, and a Plan that changes it holds for
// sessions that run.
func TestBackendIsTuned(t *testing.T) {
	s := start(t, func(o *setup) {
		o.listener().ToBackend = Tuning{KeepIdle: 7, KeepInterval: 2, KeepCount: 5, UserTimeout: 1500, Buffer: 64 << 10}
	})
	options := func() (got [7]int) {
		a, done := s.acceptors[0], make(chan struct{})
		a.post(func() {
			defer close(done)
			for slot := range a.slab.slots() {
				session := a.slab.at(slot)
				if session.state != stateRelaying {
					continue
				}
				for i, o := range [7][2]int{
					{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
					{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}, {unix.SOL_SOCKET, unix.SO_RCVBUF}, {unix.SOL_SOCKET, unix.SO_SNDBUF},
				} {
					v, err := unix.GetsockoptInt(int(session.fd[backend]), o[0], o[1])
					if err != nil {
						t.Error(err)
					}
					got[i] = v
				}
			}
		})
		<-done
		return got
	}
	c, b := s.pair()
	send(t, c, "x")
	expect(t, b, "x")
	waitFor(t, "the socket's options", func() bool { return options() == [7]int{1, 7, 2, 5, 1500, 128 << 10, 128 << 10} })
	next := s.renewed()
	next.Listeners[0].ToBackend = Tuning{Buffer: 64 << 10}
	s.apply(next)
	waitFor(t, "no keepalive and no timeout", func() bool { got := options(); return got[0] == 0 && got[4] == 0 })
	c.Close()
	b.Close()
}

// A session that is over soon costs none of these calls, and one that has nothing to set
// does not wake the loop.
func TestShortSessionsAreNotTuned(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].ToBackend = Tuning{KeepIdle: 30} })
	s := openSession(w)
	w.pass(tuneAfter - 2*tickLength)
	if w.calls["tune"] != 0 || s.tuned {
		t.Error("it was tuned before its time")
	}
	w.pass(4 * tickLength)
	if w.calls["tune"] != 1 || !s.tuned {
		t.Errorf("tuned %d times", w.calls["tune"])
	}
	w.pass(time.Minute)
	if w.calls["tune"] != 1 {
		t.Errorf("tuned %d times", w.calls["tune"])
	}
}

// A stream's receiver that does not read must not have the kernel hold megabytes for it,
// whichever way the bytes are moved. A session that asks for little is left alone.
func TestStreamsKeepLittleUnsent(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		lowAt := func(sd side) (low int) {
			a, done := s.acceptors[0], make(chan struct{})
			a.post(func() {
				defer close(done)
				for slot := range a.slab.slots() {
					if session := a.slab.at(slot); session.state == stateRelaying {
						var err error
						if low, err = unix.GetsockoptInt(int(session.fd[sd]), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); err != nil {
							t.Error(err)
						}
					}
				}
			})
			<-done
			return low
		}
		c, b := s.pair()
		send(t, c, "x")
		expect(t, b, "x")
		send(t, b, "y")
		expect(t, c, "y")
		if low := lowAt(client); low > 0 {
			t.Errorf("%d for one that asks for little", low)
		}
		go func() {
			some := make([]byte, 1<<20)
			for {
				if _, err := b.Write(some); err != nil {
					return // the end of the test
				}
			}
		}()
		waitFor(t, "the client's socket takes less", func() bool { return lowAt(client) > 0 })
		if low := lowAt(backend); low > 0 {
			t.Errorf("%d for the other side", low)
		}
		c.Close()
		b.Close()
	})
}
