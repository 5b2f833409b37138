package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"sluice/metrics"
)

// transparent has a world's pool connect in its clients' names.
func transparent(p *Plan) { p.Pools[0].Transparent = true }

// boundAs notes in whose names a world's sockets are bound.
func (w *world) boundAs() *[]string {
	var all []string
	w.a.sys.BindAs = func(fd int, a netip.Addr) syscall.Errno {
		w.at(fd)
		all = append(all, a.String())
		w.local = netip.AddrPortFrom(a, 1000)
		return w.fault("bind")
	}
	return &all
}

// The source is the client's address: that of its socket, or the one that a PROXY header
// names.
func TestTransparent(t *testing.T) {
	w := newWorld(t, transparent)
	as := w.boundAs()
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	w.accept()
	w.settled()
	if !slices.Equal(*as, []string{"198.51.100.9"}) {
		t.Errorf("bound as %v", *as)
	}

	w = newWorld(t, transparent, required)
	as = w.boundAs()
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	_, s := w.accept()
	w.at(int(s.fd[client])).in = []byte(v1Line)
	w.turn(w.on(s.fd[client], epollIn|epollOut))
	if s.state != stateDialing || !slices.Equal(*as, []string{"203.0.113.7"}) {
		t.Errorf("state %d, bound as %v", s.state, *as)
	}
	w.settled()
}

// A client only gets targets of its own family. Where there is none its session ends as
// no_backend, and no target is the worse for it.
func TestTransparentFamilies(t *testing.T) {
	mixed := func(p *Plan) {
		p.Pools[0].Targets[0].Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
	}
	w := newWorld(t, transparent, mixed)
	w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
	if _, s := w.accept(); s.target != 1 {
		t.Errorf("went to target %d", s.target)
	}
	w.settled()
	w = newWorld(t, transparent)
	w.peer = netip.MustParseAddrPort("[2001:db8::9]:1000")
	w.accept()
	if got := w.ended(); got != "no_backend" || w.calls["socket"] != 0 {
		t.Errorf("closed as %q after %d sockets", got, w.calls["socket"])
	}
	w.wantErrors(0, 0)
	w.settled()
}

// An address that can't be a source ends its session and speaks against no target.
func TestTransparentAddressWillNotDo(t *testing.T) {
	for _, test := range []struct {
		client, step string
		errno        syscall.Errno
	}{
		{"198.51.100.9", "bind", syscall.EADDRNOTAVAIL}, {"fe80::1", "bind", syscall.EINVAL}, {"127.0.0.1", "connect", syscall.EINVAL},
		{"0.0.0.0", "", 0}, {"224.0.0.1", "", 0}, {"::", "", 0}, {"192.0.2.255", "", 0}, // a world's sockets are not bound: all are like the last
	} {
		t.Run(fmt.Sprint(test.client, " ", test.errno), func(t *testing.T) {
			w := newWorld(t, transparent, func(p *Plan) {
				if netip.MustParseAddr(test.client).Is6() {
					for i := range p.Pools[0].Targets {
						p.Pools[0].Targets[i].Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
					}
				}
			})
			w.peer = netip.AddrPortFrom(netip.MustParseAddr(test.client), 1000)
			w.faults[test.step] = []syscall.Errno{test.errno}
			w.accept()
			if got := w.ended(); got != "connect_failed" || w.calls["socket"] != 1 {
				t.Errorf("closed as %q after %d sockets", got, w.calls["socket"])
			}
			id := w.plan.Pools[0].Targets[0].ID
			if n := w.a.Board.Target(0, id).Errors[metrics.ConnectNoSource].Load(); n != 1 || w.a.Board.Failing()[id.Index()].Load() != 0 {
				t.Errorf("%d counted as no_source; or it counts as failing", n)
			}
			w.wantNotices(NoticeNotAsClient)
			w.settled()
		})
	}
}

// What else fails is as in any pool: the next target is tried, and a lack of ports waited out.
func TestTransparentFailures(t *testing.T) {
	for errno, class := range connectClasses {
		for _, step := range []string{"bind", "connect"} {
			if step == "bind" && errno != syscall.EPERM && errno != syscall.EACCES {
				continue
			}
			t.Run(fmt.Sprint(step, " ", errno), func(t *testing.T) {
				w := newWorld(t, transparent)
				w.boundAs()
				w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
				w.faults[step] = []syscall.Errno{errno}
				if _, s := w.accept(); s.state != stateDialing {
					t.Fatalf("state %d, closed as %q", s.state, w.ended())
				}
				w.wantErrors(class, 1)
				w.settled()
			})
		}
	}
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENOMEM, syscall.ENOBUFS} {
		w := newWorld(t, transparent)
		w.peer = netip.MustParseAddrPort("198.51.100.9:1000")
		w.faults["bind"] = []syscall.Errno{errno}
		if _, s := w.accept(); s.state != stateWaiting {
			t.Errorf("%v: state %d, want waiting", errno, s.state)
		}
		w.settled()
	}
}

// No connection is made in the name of a client that has gone, nor with this machine's
// address in its place. A client of a unix socket has no address: it goes with this
// machine's.
func TestTransparentWithoutAClient(t *testing.T) {
	w := newWorld(t, transparent) // the peer is the zero AddrPort
	w.accept()
	if got := w.ended(); got != "client_reset" || w.calls["socket"] != 0 {
		t.Errorf("closed as %q after %d sockets", got, w.calls["socket"])
	}
	w.settled()
	w = newWorld(t, transparent, func(p *Plan) { p.Listeners[0].Unix = true })
	as := w.boundAs()
	if _, s := w.accept(); s.state != stateDialing || len(*as) != 0 {
		t.Errorf("state %d, bound as %v", s.state, *as)
	}
	w.settled()
}

// Where the kernel has no Multipath TCP connections are plain ones, and that is told once.
func TestNoMultipath(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOPROTOOPT, syscall.EPROTONOSUPPORT, syscall.EINVAL} {
		w := newWorld(t, func(p *Plan) { p.Pools[0].Multipath = true })
		w.faults["multipath"] = []syscall.Errno{errno, errno, 0}
		for range 3 {
			if _, s := w.accept(); s.state != stateDialing {
				t.Fatalf("state %d, closed as %q", s.state, w.ended())
			}
		}
		if w.calls["multipath"] != 3 || w.calls["socket"] != 3 {
			t.Errorf("%v: %d and %d sockets", errno, w.calls["multipath"], w.calls["socket"])
		}
		w.wantNotices(NoticeNoMultipath)
		w.settled()
	}
	w := newWorld(t, func(p *Plan) { p.Pools[0].Multipath = true })
	w.faults["multipath"] = []syscall.Errno{syscall.EMFILE}
	if _, s := w.accept(); s.state != stateWaiting {
		t.Errorf("state %d, want waiting", s.state)
	}
	w.settled()
}
