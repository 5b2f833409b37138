package proxy

import (
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// A client and a backend that allocate nothing, so that what a test counts is the
// acceptor's. Their descriptors are blocking.
type rawPeer struct {
	t       testing.TB
	service sys.Sockaddr
	length  uintptr
	backend int
	buffer  [512]byte
}

func newRawPeer(s *service) *rawPeer {
	p := &rawPeer{t: s.t}
	p.length = p.service.Set(netip.MustParseAddrPort(s.addresses[0]))
	p.backend = s.rawBackend()
	return p
}

// rawBackend makes a blocking listening socket the only backend.
func (s *service) rawBackend() int {
	fd, at := boundSocket(s.t)
	s.must(unix.Listen(fd, 128))
	next := s.renewed()
	next.Pools[0].Targets = []pool.Target{targetAt(1, at)}
	s.apply(next)
	return fd
}

// call makes a blocking system call and fails the test if that does.
func (p *rawPeer) call(trap, a, b, c uintptr) uintptr {
	r, _, errno := syscall.Syscall(trap, a, b, c)
	if errno != 0 {
		p.t.Fatalf("system call %d: %v", trap, errno)
	}
	return r
}

func (p *rawPeer) open() (client, backend uintptr) {
	client = p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	p.call(unix.SYS_CONNECT, client, uintptr(unsafe.Pointer(&p.service)), p.length)
	return client, p.call(unix.SYS_ACCEPT, uintptr(p.backend), 0, 0)
}

// exchange is a request one way and an answer the other.
func (p *rawPeer) exchange(client, backend uintptr) {
	at := uintptr(unsafe.Pointer(&p.buffer))
	for _, way := range [2][2]uintptr{{client, backend}, {backend, client}} {
		p.call(unix.SYS_WRITE, way[0], at, 100)
		p.call(unix.SYS_READ, way[1], at, 100)
	}
}

func (p *rawPeer) close(client, backend uintptr) {
	p.call(unix.SYS_CLOSE, client, 0, 0)
	p.call(unix.SYS_READ, backend, uintptr(unsafe.Pointer(&p.buffer)), 1) // its EOF
	p.call(unix.SYS_CLOSE, backend, 0, 0)
}

// mallocs counts the objects that all of the process allocates while run runs.
func mallocs(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// The runtime allocates a few objects by itself; one per session or request would be
// thousands.
const fewObjects = 200

func TestNoAllocationPerSession(t *testing.T) {
	for name, pick := range map[string]pool.Policy{"round_robin": pool.RoundRobin, "source_hash": pool.SourceHash, "fastest": pool.Fastest} {
		t.Run(name, func(t *testing.T) {
			s := start(t, everyDeadline, func(o *setup) { o.pool().Pick = pick })
			p := newRawPeer(s)
			sessions := func(n int) {
				for range n {
					c, b := p.open()
					p.exchange(c, b)
					p.close(c, b)
				}
			}
			sessions(100)
			if n := mallocs(func() { sessions(2000) }); n > fewObjects {
				t.Errorf("%d objects for 2000 sessions", n)
			}
		})
	}
}

func TestNoAllocationPerRequest(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, everyDeadline, func(o *setup) { o.listener().Relay = relay })
		p := newRawPeer(s)
		c, b := p.open()
		requests := func(n int) {
			for range n {
				p.exchange(c, b)
			}
		}
		requests(100)
		if n := mallocs(func() { requests(5000) }); n > fewObjects {
			t.Errorf("%d objects for 5000 requests", n)
		}
		p.close(c, b)
	})
}

// Reset and refused sessions cost as little.
func TestNoAllocationPerFailure(t *testing.T) {
	s := start(t, func(o *setup) { o.pool().Targets[0].Addr = nobody(t) })
	p := &rawPeer{t: t}
	p.length = p.service.Set(netip.MustParseAddrPort(s.addresses[0]))
	sessions := func(n int) {
		for range n {
			c := p.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			// The reset may come before connect has returned.
			_, _, errno := syscall.Syscall(unix.SYS_CONNECT, c, uintptr(unsafe.Pointer(&p.service)), p.length)
			if errno == 0 {
				_, _, errno = syscall.Syscall(unix.SYS_READ, c, uintptr(unsafe.Pointer(&p.buffer)), 1)
			}
			if errno != syscall.ECONNRESET {
				t.Fatal(errno)
			}
			p.call(unix.SYS_CLOSE, c, 0, 0)
		}
	}
	sessions(100)
	if n := mallocs(func() { sessions(2000) }); n > fewObjects {
		t.Errorf("%d objects for 2000 sessions", n)
	}
}

// everyDeadline arms all that a session can have.
func everyDeadline(o *setup) {
	l := o.listener()
	l.FirstByteTimeout, l.IdleTimeout, l.HalfClosedTimeout, l.MaxDuration, l.MaxDurationJitter = deadline, deadline, deadline, deadline, 0.5
}
