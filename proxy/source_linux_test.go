package proxy

import (
	"net/netip"
	"syscall"
	"testing"

	"sluice/proxy/pool"
)

// bySource gives a world two backends at addresses of their own.
func bySource(p *Plan) {
	q := &p.Pools[0]
	q.Pick = pool.SourceHash
	q.Backends = []pool.Backend{
		{Name: "a", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}, Weight: 1},
		{Name: "b", Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:80")}, Weight: 1},
	}
}

// The client's address decides, not its port, and a session that is refused goes where
// the table says.
func TestSourceDecides(t *testing.T) {
	picker := pool.NewPicker(func() pool.Pool {
		p := Plan{Pools: make([]pool.Pool, 1)}
		bySource(&p)
		return p.Pools[0].Prepare()
	}(), 0, nil)
	for _, client := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "2001:db8::2"} {
		addr := netip.MustParseAddr(client)
		first := picker.Pick(0, addr)
		for port := range uint16(3) {
			w := newWorld(t, bySource)
			w.peer = netip.AddrPortFrom(addr, 1000+port)
			if _, s := w.accept(); int(s.backend) != first {
				t.Errorf("%v went to %d, want %d", w.peer, s.backend, first)
			}
			w.settled()

			w = newWorld(t, bySource)
			w.peer = netip.AddrPortFrom(addr, 1000+port)
			w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
			if _, s := w.accept(); int(s.backend) != 1-first || s.state != stateDialing {
				t.Errorf("%v was refused and went to %d, want %d", w.peer, s.backend, 1-first)
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
	p := &Plan{Pools: make([]pool.Pool, 1)}
	bySource(p)
	first, second := p.prepare(), p.prepare()
	if &first[0] != &second[0] {
		t.Error("it is prepared again")
	}
	if len(p.Pools[0].Backends) != 2 || first[0].Pick != pool.SourceHash {
		t.Errorf("prepared as %+v", first)
	}
}

// What the kernel says of both ends of a connection.
func TestAddresses(t *testing.T) {
	s := start(t)
	c, _ := s.pair()
	a := s.acceptors[0]
	a.do(func() {
		for slot := range a.slab.slots() {
			if session := a.slab.at(slot); session.state != stateFree {
				fd := int(session.fd[client])
				if got := a.sys.peerAddr(fd).String(); got != c.LocalAddr().String() {
					t.Errorf("the peer is %s, want %s", got, c.LocalAddr())
				}
				if got := a.sys.localAddr(fd).String(); got != c.RemoteAddr().String() {
					t.Errorf("this end is %s, want %s", got, c.RemoteAddr())
				}
			}
		}
	})
	if got := a.sys.peerAddr(-1); got.IsValid() {
		t.Errorf("no socket has the peer %s", got)
	}
}
