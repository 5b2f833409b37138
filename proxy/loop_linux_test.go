package proxy

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// Which targets may be the service itself, and which the kernel is asked about.
func TestSelfish(t *testing.T) {
	for _, test := range []struct {
		own, target, source string
		want                string // "" = no, "always", or the address that is asked about
	}{
		{"127.0.0.1:80", "127.0.0.1:80", "", "always"},
		{"127.0.0.1:80", "127.0.0.1:81", "", ""},
		{"127.0.0.1:80", "127.0.0.2:80", "", ""},
		{"127.0.0.1:80", "0.0.0.0:80", "", "always"},
		{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "", "always"},
		{"127.0.0.1:80", "0.0.0.0:80", "10.0.0.1", ""},
		{"10.0.0.1:80", "0.0.0.0:80", "10.0.0.1", "always"},
		{"0.0.0.0:80", "127.0.0.9:80", "", "always"},
		{"0.0.0.0:80", "10.0.0.1:80", "", "10.0.0.1:80"},
		{"0.0.0.0:80", "[2001:db8::1]:80", "", ""},
		{"[::]:80", "[::]:80", "", "always"},
		{"[::]:80", "[2001:db8::1]:80", "", "[2001:db8::1]:80"},
		{"[::]:80", "10.0.0.1:80", "", ""}, // the control plane says 0.0.0.0 too, unless it is ipv6_only
		{"[fe80::1%2]:80", "[fe80::1%3]:80", "", "[fe80::1%3]:80"},
	} {
		p := &pool.Pool{Targets: []pool.Target{targetAt(0, netip.MustParseAddrPort("192.0.2.1:9")), targetAt(1, netip.MustParseAddrPort(test.target))}}
		if test.source != "" {
			p.Sources = []netip.Addr{netip.MustParseAddr(test.source)}
		}
		found := selfishOf(p, []Own{{Addr: netip.MustParseAddrPort(test.own)}})
		got := ""
		switch {
		case found == nil:
		case found[0] != nil:
			got = "the other target"
		case found[1].always:
			got = "always"
		default:
			got = found[1].to.String()
		}
		if got != test.want {
			t.Errorf("listening on %s, target %s, source %q: %q, want %q", test.own, test.target, test.source, got, test.want)
		}
	}
}

// A session of a target that is the service itself ends before a connect, and a target
// that can't be one is not looked at.
func TestLoopEnds(t *testing.T) {
	own := func(at ...string) func(*Plan) {
		return func(p *Plan) {
			for _, a := range at {
				p.Own = append(p.Own, Own{Addr: netip.MustParseAddrPort(a)})
			}
		}
	}
	for name, test := range map[string]struct {
		own   func(*Plan)
		from  string // what the kernel says
		ends  string
		asked int
	}{
		"the same address":            {own("192.0.2.1:80"), "", "loop", 0},
		"one of all addresses":        {own("0.0.0.0:80"), "192.0.2.1", "loop", 1},
		"not of this machine":         {own("0.0.0.0:80"), "192.0.2.9", "", 1},
		"no way there":                {own("0.0.0.0:80"), "", "", 1},
		"another port":                {own("0.0.0.0:81", "192.0.2.1:8080"), "192.0.2.1", "", 0},
		"nothing that it listens on":  {own(), "192.0.2.1", "", 0},
		"another address of the port": {own("192.0.2.7:80"), "192.0.2.1", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.own)
			w.comesFrom = netip.Addr{}
			if test.from != "" {
				w.comesFrom = netip.MustParseAddr(test.from)
			}
			w.accept()
			if got := w.ended(); got != test.ends {
				t.Errorf("closed as %q, want %q", got, test.ends)
			}
			if w.calls["sourceTo"] != test.asked {
				t.Errorf("the kernel was asked %d times, want %d", w.calls["sourceTo"], test.asked)
			}
			if test.ends != "" {
				if w.calls["connect"]+w.calls["socket"] > 0 {
					t.Error("it was dialed")
				}
				w.wantNotices(NoticeLoop)
			}
			w.settled()
		})
	}
}

// The kernel's answer is forgotten: the address may come to this machine, or leave it.
func TestLoopIsAskedAgain(t *testing.T) {
	w := newWorld(t, func(p *Plan) {
		p.Own = []Own{{Addr: netip.MustParseAddrPort("0.0.0.0:80")}}
		p.Pools[0].Targets = p.Pools[0].Targets[:1]
	})
	w.relaying()
	w.pass(2 * askAgain)
	w.comesFrom = netip.MustParseAddr("192.0.2.1")
	w.accept()
	if got := w.ended(); got != "loop" {
		t.Errorf("closed as %q, want loop", got)
	}
	if got := w.calls["sourceTo"]; got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
	w.settled()
}

// A source that is not here ends the session at once, with a class and a word of its own;
// it speaks against no target, and nothing else is tried.
func TestDialWithoutItsSource(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.ENODEV} {
		w := newWorld(t, withSource)
		w.faults["bind"] = always(errno)
		w.accept()
		if got := w.ended(); got != "connect_failed" {
			t.Errorf("%v: closed as %q", errno, got)
		}
		if n := w.calls["bind"]; n != 1 {
			t.Errorf("%v: %d tries, want 1", errno, n)
		}
		if got := w.a.Board.Target(0, w.plan.Pools[0].Targets[0].ID).Errors[metrics.ConnectNoSource].Load() +
			w.a.Board.Target(0, w.plan.Pools[0].Targets[1].ID).Errors[metrics.ConnectNoSource].Load(); got != 1 {
			t.Errorf("%v: %d counted as no_source, want 1", errno, got)
		}
		for i := range 2 {
			if f := w.a.Board.Failing()[i].Load(); f != 0 {
				t.Errorf("%v: target %d is failing", errno, i)
			}
		}
		n := <-w.notices
		if n.Kind != NoticeNoSource || n.Source != w.plan.Pools[0].Sources[0] {
			t.Errorf("%v: notice %+v", errno, n)
		}
		w.settled()
	}
}

// EADDRNOTAVAIL of connect(2) is a lack of ports only where the way has a source.
func TestDialWithoutItsFamily(t *testing.T) {
	w := newWorld(t)
	w.comesFrom = netip.Addr{}
	w.faults["connect"] = []syscall.Errno{syscall.EADDRNOTAVAIL}
	if _, s := w.accept(); s.state != stateDialing {
		t.Fatalf("state %d, closed as %q, want the other backend dialed", s.state, w.ended())
	}
	w.wantErrors(metrics.ConnectNoFamily, 1)
	w.wantNotices(NoticeConnectFailed)
	w.settled()
}

// A source of the other family costs no system call.
func TestDialFromTheOtherFamily(t *testing.T) {
	w := newWorld(t, func(p *Plan) {
		p.Pools[0].Sources = []netip.Addr{netip.MustParseAddr("2001:db8::9")}
		p.Pools[0].Targets[1].Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
		p.Pools[0].Targets[1].Backup = true
	})
	if _, s := w.accept(); s.state != stateDialing {
		t.Fatalf("state %d, closed as %q", s.state, w.ended())
	}
	w.wantErrors(metrics.ConnectNoFamily, 1)
	if n := w.calls["socket"]; n != 1 {
		t.Errorf("%d sockets, want 1", n)
	}
	w.settled()
}

// What the kernel says of the ways to some addresses, and of zones.
func TestSourceTo(t *testing.T) {
	real := sys.Linux()
	if got := real.SourceTo(netip.MustParseAddrPort("127.0.0.5:80")); got.String() != "127.0.0.1" {
		t.Errorf("to 127.0.0.5 from %v", got)
	}
	if got := real.SourceTo(netip.MustParseAddrPort("[fe80::1%nowhere0]:80")); got.IsValid() {
		t.Errorf("to an interface that is not there from %v", got)
	}
}

// The zone reaches the kernel, by name or by number; an unknown one is no such device.
func TestZones(t *testing.T) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("no IPv6 here")
	}
	lo, at := -1, netip.Addr{}
	ifs, err := linkLocals()
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range ifs {
		lo, at = i, a
	}
	calls := sys.Linux()
	try := func(zone string, a netip.Addr) syscall.Errno {
		fd, errno := calls.Socket(unix.AF_INET6, false)
		if errno != 0 {
			t.Skip(errno)
		}
		defer calls.Close(fd)
		return calls.Bind(fd, a.WithZone(zone))
	}
	for _, zone := range []string{"nowhere0", "a-name-much-too-long-for-linux"} {
		if errno := try(zone, netip.MustParseAddr("fe80::1")); errno != syscall.ENODEV {
			t.Errorf("zone %s: %v, want %v", zone, errno, syscall.ENODEV)
		}
	}
	if lo < 0 {
		return // no link-local address to bind to; the tests of cmd/sluice make one where they may
	}
	for _, zone := range []string{at.Zone(), strconv.Itoa(lo)} {
		if errno := try(zone, at); errno != 0 {
			t.Errorf("bind to %v by zone %s: %v", at, zone, errno)
		}
	}
	if errno := try("", at); errno != syscall.EINVAL {
		t.Errorf("bind to a link-local address without its zone: %v, want %v", errno, syscall.EINVAL)
	}
}

// linkLocals are this machine's link-local addresses with their zones, by interface.
func linkLocals() (map[int]netip.Addr, error) {
	all := map[int]netip.Addr{}
	ifs, err := net.Interfaces()
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
				all[i.Index] = prefix.Addr().WithZone(i.Name)
			}
		}
	}
	return all, err
}
