package proxy

import (
	"net/netip"
	"syscall"
	"testing"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// bySource gives a world two backends at addresses of their own.
func bySource(p *Plan) {
	q := &p.Pools[0]
	q.Pick = pool.SourceHash
	q.Targets = []pool.Target{targetAt(0, netip.MustParseAddrPort("192.0.2.1:80")), targetAt(1, netip.MustParseAddrPort("192.0.2.2:80"))}
}

// The client's address decides, not its port, and a session that is refused goes where
// the table says.
func TestSourceDecides(t *testing.T) {
	p := Plan{Pools: make([]pool.Pool, 1)}
	bySource(&p)
	state := pool.State{Held: make([]metrics.Gauge, 2), Weights: make([]metrics.Gauge, 2), Weighed: new(metrics.Counter), Failing: make([]metrics.Failing, 2)}
	state.Weights[0].Store(1)
	state.Weights[1].Store(1)
	picker := pool.NewPicker(p.Pools[0].Prepare(), 0, state)
	for _, client := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "2001:db8::2"} {
		addr := netip.MustParseAddr(client)
		first := picker.Pick(nil, addr)
		for port := range uint16(3) {
			w := newWorld(t, bySource)
			w.peer = netip.AddrPortFrom(addr, 1000+port)
			if _, s := w.accept(); int(s.target) != first {
				t.Errorf("%v went to %d, want %d", w.peer, s.target, first)
			}
			w.settled()

			w = newWorld(t, bySource)
			w.peer = netip.AddrPortFrom(addr, 1000+port)
			w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
			if _, s := w.accept(); int(s.target) != 1-first || s.state != stateDialing {
				t.Errorf("%v was refused and went to %d, want %d", w.peer, s.target, 1-first)
			}
			w.settled()
		}
	}
}

// Only a pool that picks by it pays for the address: once for each try.
func TestSourceIsAskedWhereItCounts(t *testing.T) {
	for pick, want := range map[pool.Policy]int{pool.RoundRobin: 0, pool.LeastSessions: 0, pool.SourceHash: 2} {
		w := newWorld(t, bySource, func(p *Plan) { p.Pools[0].Pick = pick })
		w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
		w.accept()
		if got := w.calls["peerAddr"]; got != want {
			t.Errorf("policy %d: asked %d times, want %d", pick, got, want)
		}
		w.settled()
	}
}

// The table is made once for all acceptors that are given a Plan.
func TestPlanIsPreparedOnce(t *testing.T) {
	p, next := &Plan{Pools: []pool.Pool{{ID: appID}}}, &Plan{Pools: []pool.Pool{{ID: appID}}}
	bySource(p)
	bySource(next)
	first := p.prepare(nil)[appID]
	if p.prepare(nil)[appID] != first {
		t.Error("it is prepared again")
	}
	if next.prepare(p)[appID] != first {
		t.Error("it is prepared again for a plan in which the pool is the same")
	}
	other := &Plan{Pools: []pool.Pool{{ID: appID}}}
	bySource(other)
	other.Pools[0].Targets[1].Addr = netip.MustParseAddrPort("192.0.2.3:80")
	if other.prepare(next)[appID] == first {
		t.Error("another pool has the table of the one before")
	}
}

// What the kernel says of both ends of a connection.
func TestAddresses(t *testing.T) {
	s := start(t)
	c, _ := s.pair()
	a := s.acceptors[0]
	done := make(chan struct{})
	a.post(func() {
		defer close(done)
		for slot := range a.slab.slots() {
			if session := a.slab.at(slot); session.state != stateFree {
				fd := int(session.fd[client])
				if got := a.sys.PeerAddr(fd).String(); got != c.LocalAddr().String() {
					t.Errorf("the peer is %s, want %s", got, c.LocalAddr())
				}
				if got := a.sys.LocalAddr(fd).String(); got != c.RemoteAddr().String() {
					t.Errorf("this end is %s, want %s", got, c.RemoteAddr())
				}
			}
		}
	})
	<-done
	if got := a.sys.PeerAddr(-1); got.IsValid() {
		t.Errorf("no socket has the peer %s", got)
	}
}
