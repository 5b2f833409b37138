package proxy

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// fakeNetworks are a world's network namespaces: its own, and that of pools with netns = 7.
var fakeNetworks = map[uint64]*os.File{0: os.Stdin, 7: os.Stdout}

const home, elsewhere = 0, 1 // their descriptors

// inNetwork has a world's pool connect in another namespace.
func inNetwork(p *Plan) { p.Pools[0].Netns = 7 }

// madeIn notes where a world's sockets are made, and where it asks for the source.
func (w *world) madeIn() *[]int {
	var all []int
	socket, source := w.a.sys.Socket, w.a.sys.SourceTo
	w.a.sys.Socket = func(family int, multipath bool) (int, syscall.Errno) {
		all = append(all, w.network)
		return socket(family, multipath)
	}
	w.a.sys.SourceTo = func(to netip.AddrPort) netip.Addr {
		all = append(all, w.network)
		return source(to)
	}
	return &all
}

// wantIn says where sockets must have been made, and that the thread is back.
func (w *world) wantIn(got *[]int, want ...int) {
	w.t.Helper()
	if fmt.Sprint(*got) != fmt.Sprint(want) || w.network != home {
		w.t.Errorf("made in %v, want %v; the thread is in %d", *got, want, w.network)
	}
}

// All sockets for connections of a pool are made in its namespace: those of sessions, of further tries, of plain
// connections in place of Multipath TCP, and of one for each source.
func TestNetworkOfAPool(t *testing.T) {
	w := newWorld(t)
	in := w.madeIn()
	w.accept()
	w.wantIn(in, home)
	if w.calls["enter"] > 0 {
		t.Error("a pool without a namespace enters one")
	}
	w.settled()

	w = newWorld(t, inNetwork)
	in = w.madeIn()
	w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
	w.accept()
	w.wantIn(in, elsewhere, elsewhere)
	w.settled()

	w = newWorld(t, inNetwork, func(p *Plan) { p.Pools[0].Multipath = true })
	in = w.madeIn()
	w.faults["multipath"] = []syscall.Errno{syscall.ENOPROTOOPT}
	w.accept()
	w.wantIn(in, elsewhere, elsewhere)
	w.wantNotices(NoticeNoMultipath)
	w.settled()

	w = newWorld(t, inNetwork, func(p *Plan) {
		p.Pools[0].Sources = []netip.Addr{netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")}
	})
	in = w.madeIn()
	w.faults["bind"] = []syscall.Errno{syscall.EADDRNOTAVAIL}
	w.accept()
	w.wantIn(in, elsewhere, elsewhere)
	w.settled()

	w = newWorld(t, inNetwork) // whether the way has a source, or all of its ports are in use
	in = w.madeIn()
	w.faults["connect"] = []syscall.Errno{syscall.EADDRNOTAVAIL}
	w.comesFrom = netip.Addr{}
	w.accept()
	w.wantErrors(metrics.ConnectNoFamily, 1)
	w.wantIn(in, elsewhere, elsewhere, elsewhere)
	w.settled()
}

// A session that is under way stays where it is when a Plan brings another namespace, the next one
// goes there.
func TestNetworkIsSwitched(t *testing.T) {
	w := newWorld(t)
	in := w.madeIn()
	w.relaying()
	for _, netns := range []uint64{7, 0} {
		next := w.plan.Renewed()
		next.Pools[0].Netns = netns
		w.apply(next)
		w.accept()
	}
	w.wantIn(in, home, elsewhere, home)
	w.settled()
}

// A namespace that can't be entered is a fault of this machine: lacks are waited out, and nothing is
// connected from elsewhere.
func TestNetworkCantBeEntered(t *testing.T) {
	for errno, state := range map[syscall.Errno]state{syscall.ENOMEM: stateWaiting, syscall.EPERM: stateDialing} {
		w := newWorld(t, inNetwork)
		in := w.madeIn()
		w.faults["enter"] = []syscall.Errno{errno}
		_, s := w.accept()
		if s.state != state {
			t.Errorf("%v: state %d, want %d", errno, s.state, state)
		}
		if state == stateDialing { // the next try
			w.wantErrors(metrics.ConnectOther, 1)
			w.wantIn(in, elsewhere)
		} else {
			w.wantIn(in)
		}
		w.settled()
	}
}

// To come back is tried again. If that is in vain nothing is done any more: other pools' sockets would
// be made there.
func TestNetworkCantBeLeft(t *testing.T) {
	w := newWorld(t, inNetwork)
	in := w.madeIn()
	w.faults["enter"] = []syscall.Errno{0, syscall.ENOMEM, syscall.ENOMEM}
	if _, s := w.accept(); s.state != stateDialing {
		t.Errorf("state %d", s.state)
	}
	w.wantIn(in, elsewhere)
	w.settled()

	said := make(chan any)
	go func() { // its thread stays locked, and ends with it
		defer func() { said <- recover() }()
		w := newWorld(t, inNetwork)
		enter := w.a.sys.Enter
		w.a.sys.Enter = func(network int) syscall.Errno {
			if network == home {
				return syscall.EPERM
			}
			return enter(network)
		}
		w.accept()
	}()
	if text := fmt.Sprint(<-said); !strings.Contains(text, "acceptor 0 can't leave the network namespace of a pool: setns: operation not permitted") {
		t.Errorf("said %q", text)
	}
}

// A Plan with a namespace that the acceptor was not given is not bound.
func TestNetworkIsMissing(t *testing.T) {
	w := newWorld(t)
	next := w.plan.Renewed()
	next.Seats, next.Pools[0].Netns = []Seat{{}}, 8
	_, err := w.a.Bind(next, View{Own: Sockets{Listeners: map[metrics.ID]int{webID: fakeListener}, Mail: -1}, Netns: fakeNetworks})
	if err == nil || !strings.Contains(err.Error(), `pool "app": no network namespace 8`) {
		t.Errorf("bound: %v", err)
	}
	w.settled()
}

// Probes come from there, too.
func TestNetworkOfAProbe(t *testing.T) {
	w := newWorld(t, inNetwork)
	in := w.madeIn()
	w.faults["connect"] = []syscall.Errno{syscall.ECONNREFUSED}
	w.accept()
	*in = nil
	w.pass(firstTime * 2)
	w.turn()
	w.wantIn(in, elsewhere)
	w.settled()
}

// A listener is a backend of the service itself where both are in one namespace. The file of a unix socket is
// the same in all, and an abstract name is not.
func TestLoopAcrossNetworks(t *testing.T) {
	tcp, file, abstract := netip.MustParseAddrPort("127.0.0.1:80"), pool.UnixAddr("/run/app.sock"), pool.UnixAddr("@app")
	for _, test := range []struct {
		addr      netip.AddrPort
		own, pool uint64
		want      bool
	}{
		{tcp, 0, 0, true}, {tcp, 7, 7, true}, {tcp, 0, 7, false}, {tcp, 7, 0, false}, {tcp, 7, 8, false},
		{file, 0, 0, true}, {file, 0, 7, true},
		{abstract, 0, 0, true}, {abstract, 0, 7, false},
	} {
		p := &pool.Pool{Netns: test.pool, Targets: []pool.Target{targetAt(0, test.addr)}}
		if found := selfishOf(p, []Own{{Addr: test.addr, Netns: test.own}}); (found != nil) != test.want {
			t.Errorf("%s of %d, from %d: %v, want %v", pool.AddressText(test.addr), test.own, test.pool, found != nil, test.want)
		}
	}
	w := newWorld(t, inNetwork, func(p *Plan) { p.Own = []Own{{netip.MustParseAddrPort("0.0.0.0:80"), 7}} })
	in := w.madeIn()
	w.comesFrom = netip.MustParseAddr("192.0.2.1")
	w.accept()
	if got := w.ended(); got != "loop" {
		t.Errorf("closed as %q", got)
	}
	w.wantIn(in, elsewhere)
	w.wantNotices(NoticeLoop)
	w.settled()
}

// A namespace that no pool has any more is let go: nothing of the Plan before is held once another runs.
func TestNetworkIsLetGo(t *testing.T) {
	w := newWorld(t, inNetwork)
	w.a.settling = append(w.a.settling, w.a.bound.listeners[0]) // whose row is looked at
	gone := make(chan struct{})
	runtime.AddCleanup(w.a.bound.pools[appID].network, func(gone chan struct{}) { close(gone) }, gone)
	next := w.plan.Renewed()
	next.Pools[0].Netns = 0
	w.apply(next)
	for late := time.After(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-gone:
			w.settled()
			return
		case <-late:
			t.Fatal("it is still held")
		case <-time.After(time.Millisecond):
		}
	}
}
