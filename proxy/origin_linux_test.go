package proxy

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// fromSources gives a world's pool source addresses.
func fromSources(texts ...string) func(p *Plan) {
	return func(p *Plan) {
		for _, text := range texts {
			p.Pools[0].Sources = append(p.Pools[0].Sources, netip.MustParseAddr(text))
		}
	}
}

// bound notes what sockets of a world are bound to, and answers.
func (w *world) bound(answer func(a netip.AddrPort) syscall.Errno) *[]string {
	var all []string
	note := func(a netip.AddrPort) syscall.Errno {
		all = append(all, a.String())
		return answer(a)
	}
	w.a.sys.Bind = func(fd int, a netip.Addr) syscall.Errno { return note(netip.AddrPortFrom(a, 0)) }
	w.a.sys.BindPort = func(fd int, a netip.AddrPort) syscall.Errno { return note(a) }
	return &all
}

// Sessions take the sources in turn; of those of another family none is asked for.
func TestSourcesInTurn(t *testing.T) {
	w := newWorld(t, fromSources("192.0.2.1", "2001:db8::1", "192.0.2.2"))
	all := w.bound(func(netip.AddrPort) syscall.Errno { return 0 })
	for range 4 {
		w.accept()
	}
	if want := []string{"192.0.2.1:0", "192.0.2.2:0", "192.0.2.1:0", "192.0.2.2:0"}; !slices.Equal(*all, want) {
		t.Errorf("bound to %v, want %v", *all, want)
	}
}

// One that has no port left is passed over for a moment, and the next takes the session
// within the same try.
func TestSourceWithoutPorts(t *testing.T) {
	w := newWorld(t, fromSources("192.0.2.1", "192.0.2.2"))
	all := w.bound(func(netip.AddrPort) syscall.Errno { return 0 })
	w.faults["connect"] = []syscall.Errno{syscall.EADDRNOTAVAIL}
	for range 3 {
		if _, s := w.accept(); s.state != stateDialing {
			t.Fatalf("state %d", s.state)
		}
	}
	if want := []string{"192.0.2.1:0", "192.0.2.2:0", "192.0.2.2:0", "192.0.2.2:0"}; !slices.Equal(*all, want) {
		t.Errorf("bound to %v, want %v", *all, want)
	}
	w.wantErrors(metrics.ConnectNoPorts, 0)
	w.pass(2 * barredFor)
	w.accept()
	if got := (*all)[4]; got != "192.0.2.1:0" {
		t.Errorf("after a moment bound to %v", got)
	}
}

// One that is not here is passed over; where all are missing the session ends at once.
func TestSourceThatIsMissing(t *testing.T) {
	missing := netip.MustParseAddr("192.0.2.1")
	w := newWorld(t, fromSources("192.0.2.1", "192.0.2.2"))
	w.bound(func(a netip.AddrPort) syscall.Errno {
		if a.Addr() == missing {
			return syscall.EADDRNOTAVAIL
		}
		return 0
	})
	if _, s := w.accept(); s.state != stateDialing {
		t.Errorf("state %d with one of two missing", s.state)
	}
	w = newWorld(t, fromSources("192.0.2.1", "192.0.2.2"))
	w.bound(func(netip.AddrPort) syscall.Errno { return syscall.EADDRNOTAVAIL })
	w.accept()
	if got := w.ended(); got != "connect_failed" {
		t.Errorf("closed as %q", got)
	}
	if n := w.a.Board.Target(0, w.plan.Pools[0].Targets[0].ID).Errors[metrics.ConnectNoSource].Load(); n != 1 {
		t.Errorf("%d counted as no_source, want 1", n)
	}
	w.settled()
}

// A port of the range that the target has already, or that is listened on, is passed
// over; one source tries so many at most, and gives back every socket.
func TestSourcePorts(t *testing.T) {
	ports := func(p *Plan) { p.Pools[0].SourcePorts = pool.Ports{Low: 2000, High: 2003} }
	w := newWorld(t, fromSources("192.0.2.1"), ports)
	all := w.bound(func(a netip.AddrPort) syscall.Errno {
		if a.Port() == 2002 {
			return syscall.EADDRINUSE
		}
		return 0
	})
	w.faults["connect"] = []syscall.Errno{syscall.EADDRNOTAVAIL}
	if _, s := w.accept(); s.state != stateDialing {
		t.Fatalf("state %d", s.state)
	}
	if want := []string{"192.0.2.1:2001", "192.0.2.1:2002", "192.0.2.1:2003"}; !slices.Equal(*all, want) {
		t.Errorf("bound to %v, want %v", *all, want)
	}
	w = newWorld(t, fromSources("192.0.2.1", "192.0.2.2"), ports)
	all = w.bound(func(netip.AddrPort) syscall.Errno { return syscall.EADDRINUSE })
	_, s := w.accept()
	if s.state != stateWaiting || len(*all) != 8 { // both targets of a world have one address
		t.Errorf("state %d after %d tries, want one that waits after 4 with each source", s.state, len(*all))
	}
	if first, other := newOrigins(&pooled{Pool: &w.plan.Pools[0]}, 0), newOrigins(&pooled{Pool: &w.plan.Pools[0]}, 2); first.port == other.port {
		t.Error("two acceptors begin with the same port")
	}
}

// A target of another family than all sources is no candidate as it runs: it costs no
// system call, and the next is tried.
func TestSourcesOfAnotherFamily(t *testing.T) {
	w := newWorld(t, fromSources("2001:db8::1", "2001:db8::2"), func(p *Plan) {
		p.Pools[0].Targets[1].Addr = netip.MustParseAddrPort("[2001:db8::9]:80")
		p.Pools[0].Targets[1].Backup = true
	})
	if _, s := w.accept(); s.state != stateDialing || w.calls["socket"] != 1 {
		t.Errorf("state %d after %d sockets", s.state, w.calls["socket"])
	}
	w.wantErrors(metrics.ConnectNoFamily, 1)
	w.settled()
}

// The kernel lets two sockets have one source and port towards two targets, and not
// towards one: what source_ports rests on.
func TestKernelSharesSourcePorts(t *testing.T) {
	calls := sys.Linux()
	var targets []netip.AddrPort
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		targets = append(targets, addrOf(l))
	}
	source := netip.MustParseAddr("127.9.8.7")
	for port := uint16(40000); ; port++ {
		if port == 40100 {
			t.Fatal("no free port found")
		}
		try := func(to netip.AddrPort) syscall.Errno {
			fd, errno := calls.Socket(syscall.AF_INET, false)
			if errno != 0 {
				t.Fatal(errno)
			}
			t.Cleanup(func() { calls.Reset(fd) })
			if errno := calls.BindPort(fd, netip.AddrPortFrom(source, port)); errno != 0 {
				return errno
			}
			return calls.Connect(fd, to)
		}
		if errno := try(targets[0]); errno == syscall.EADDRINUSE {
			continue // a socket listens there
		} else if errno != syscall.EINPROGRESS {
			t.Fatal(errno)
		}
		if errno := try(targets[1]); errno != syscall.EINPROGRESS {
			t.Errorf("towards another target: %v", errno)
		}
		if errno := try(targets[0]); errno != syscall.EADDRNOTAVAIL {
			t.Errorf("towards the same target: %v", errno)
		}
		return
	}
}
