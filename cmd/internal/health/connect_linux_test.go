package health

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// dropping is a server that drops all packets until it is told to take them.
func dropping(t *testing.T) (addr netip.AddrPort, take func()) {
	t.Helper()
	plain := net.ListenConfig{}
	plain.SetMultipathTCP(false) // which takes no filter
	ln, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	set := func(set func(fd int) error) {
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = set(int(fd)) }); err != nil || failed != nil {
			t.Error(err, failed)
		}
	}
	set(func(fd int) error {
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	return ln.Addr().(*net.TCPAddr).AddrPort(), func() {
		set(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	}
}

// tcpCheck is one that only connects.
func tcpCheck(change func(*config.Pool)) *check {
	p := config.DefaultPool("app")
	p.Health.Check, p.Health.Timeout = config.CheckTCP, 5*time.Second
	if change != nil {
		change(&p)
	}
	return newCheck(p, nil, (*exec.Cmd).Run)
}

// What fails is classified as it is with package net, and reported as clearly.
func TestConnectFaults(t *testing.T) {
	from := func(source string) func(*config.Pool) {
		return func(p *config.Pool) { p.Source = []netip.Addr{netip.MustParseAddr(source)} }
	}
	for _, tt := range []struct {
		name, to string
		change   func(*config.Pool)
		want     metrics.CheckFailure
		text     string
	}{
		{"refused", "127.0.0.1:1", nil, metrics.CheckRefused, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{"IPv6", "[::1]:1", nil, metrics.CheckRefused, "dial tcp [::1]:1: connect: connection refused"},
		{"mapped", "[::ffff:127.0.0.1]:1", nil, metrics.CheckRefused, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{"other port", "127.0.0.1:2", func(p *config.Pool) { p.Health.Port = 1 }, metrics.CheckRefused, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{"source", "127.0.0.1:1", from("127.0.0.9"), metrics.CheckRefused, "dial tcp 127.0.0.9:0->127.0.0.1:1: connect: connection refused"},
		{"no such source", "127.0.0.1:1", from("192.0.2.1"), metrics.CheckOther, "dial tcp 192.0.2.1:0->127.0.0.1:1: bind: cannot assign requested address"},
		{"no interface", "127.0.0.1:1", func(p *config.Pool) { p.Interface = "nosuch0" }, metrics.CheckOther, "dial tcp 127.0.0.1:1: setsockopt: no such device"},
		{"no zone", "[fe80::1%nosuch0]:1", nil, metrics.CheckOther, "dial tcp [fe80::1%nosuch0]:1: connect: invalid argument"},
		{"broadcast", "255.255.255.255:1", nil, metrics.CheckUnreachable, "dial tcp 255.255.255.255:1: connect: network is unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, to := tcpCheck(tt.change), netip.MustParseAddrPort(tt.to)
			if to.Addr().Is6() && !to.Addr().Is4In6() {
				ln, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Skip("this machine has no IPv6")
				}
				ln.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.health.Timeout)
			defer cancel()
			if conn, err := c.dial(ctx, to); err == nil {
				conn.Close()
				t.Fatal("somebody is there")
			} else if by := classify(err); by != tt.want {
				t.Errorf("by package net it is %s, want %s", by, tt.want)
			}
			fails(t, connected(t, c, to), tt.want, tt.text)
		})
	}
}

func TestConnectUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	to := pool.UnixAddr(path)
	fails(t, connected(t, tcpCheck(nil), to), metrics.CheckRefused, path)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	well(t, connected(t, tcpCheck(nil), to))
}

// One that has no answer at once is waited for, until it is late.
func TestConnectWaits(t *testing.T) {
	to, take := dropping(t)
	begin := time.Now()
	fails(t, connected(t, tcpCheck(func(p *config.Pool) { p.Health.Timeout = 300 * time.Millisecond }), to), metrics.CheckTimeout, "i/o timeout")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("it was late after %v", took)
	}
	time.AfterFunc(100*time.Millisecond, take) // the SYN that is sent again after a second finds it
	well(t, connected(t, tcpCheck(nil), to))
}

// Many at once, each is told once, and no descriptor is left; nor of those that are broken off.
func TestConnectsLeaveNothing(t *testing.T) {
	const each = 100
	up := netip.MustParseAddrPort(server(t, silent))
	down := netip.MustParseAddrPort("127.0.0.1:1")
	nobody, _ := dropping(t)
	before := descriptors(t)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	w := newConnects(ctx, &running)
	var mu sync.Mutex
	found := map[metrics.CheckFailure]int{}
	all := make(chan bool, 4*each)
	begin := func(n int, to netip.AddrPort, timeout time.Duration) {
		c := tcpCheck(func(p *config.Pool) { p.Health.Timeout = timeout })
		var some []*connect
		for range n {
			some = append(some, &connect{check: c, to: to, doubt: true, done: func(_ time.Time, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					found[classify(err)]++
				} else {
					found[metrics.NumCheckFailures]++
				}
				all <- true
			}})
		}
		w.begin(some)
	}
	begin(each, nobody, time.Minute)
	for range 2 {
		begin(each/2, nobody, 100*time.Millisecond)
		begin(each/2, up, time.Minute)
		begin(each/2, down, time.Minute)
	}
	for range 3 * each {
		select {
		case <-all:
		case <-time.After(10 * time.Second):
			t.Fatalf("told are %v", found)
		}
	}
	mu.Lock()
	if found[metrics.CheckTimeout] != each || found[metrics.CheckRefused] != each || found[metrics.NumCheckFailures] != each {
		t.Errorf("found %v", found)
	}
	mu.Unlock()
	stop()
	running.Wait()
	begin(1, nobody, time.Minute) // after the end
	if len(all) != 1 {
		t.Errorf("%d are told that were broken off", len(all)-1)
	}
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, and %d before", now, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// A connection with itself is none.
func TestConnectMeetsItself(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, own); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	own.Port = name.(*unix.SockaddrInet4).Port
	if err := unix.Connect(fd, own); err != nil {
		t.Fatal(err)
	}
	var told error
	c := &connect{
		check: tcpCheck(nil), to: netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port)), doubt: true, fd: fd,
		done: func(_ time.Time, err error) { told = err },
	}
	c.decide(false)
	if classify(told) != metrics.CheckRefused {
		t.Errorf("it is %v", told)
	}
	if err := unix.Close(fd); err != syscall.EBADF {
		t.Errorf("its socket is open: %v", err)
	}
}

// The server does not see a check: there is nothing to accept.
func TestConnectIsNotSeen(t *testing.T) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 20 {
		well(t, connected(t, tcpCheck(nil), ln.Addr().(*net.TCPAddr).AddrPort()))
	}
	if err := ln.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := ln.Accept(); err == nil {
		t.Errorf("it has accepted %v", c.RemoteAddr())
	}
}
