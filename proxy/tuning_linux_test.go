package proxy

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The connection to a backend has what the Plan says, and a Plan that changes it holds for
// the next session.
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
	talk := func() (end func()) {
		c, b := s.pair()
		send(t, c, "x")
		expect(t, b, "x")
		return func() {
			c.Close()
			b.Close()
			waitFor(t, "the session's end", func() bool { return s.total(sessions) == 0 })
		}
	}
	end := talk()
	if got, want := options(), [7]int{1, 7, 2, 5, 1500, 128 << 10, 128 << 10}; got != want {
		t.Errorf("the backend's socket has %v, want %v", got, want)
	}
	end()
	next := s.renewed()
	next.Listeners[0].ToBackend = Tuning{}
	s.apply(next)
	end = talk()
	if got := options(); got[0] != 0 || got[4] != 0 {
		t.Errorf("the backend's socket has %v, want no keepalive and no timeout", got)
	}
	end()
}
