package proxy

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"sluice/proxy/pool"
)

// A socket stays in the network namespace in which it was made. So for a pool that has one
// the loop is there for the one call that makes it:
//
//	its own ── setns ──► the pool's: socket(2) ── setns ──► its own
//
// Meanwhile no other goroutine may run on the thread, nor be started from it, which the Go runtime sees
// to for a locked one. Measured: 5.0 us for socket and connect, 9.5 with setns there and back. All that
// follows (bind, connect, an interface by its name) goes by the socket.
type network struct {
	there, home *os.File // so that they stay open
	to, back    int      // their descriptors
}

// networkOf is the one of a pool; nil = the acceptor's own.
func networkOf(p *pool.Pool, v View) (*network, error) {
	if p.Netns == 0 {
		return nil, nil
	}
	n := &network{there: v.Netns[p.Netns], home: v.Netns[0]}
	if n.there == nil || n.home == nil {
		return nil, fmt.Errorf("pool %q: no network namespace %d", p.Name, p.Netns)
	}
	n.to, n.back = int(n.there.Fd()), int(n.home.Fd())
	return n, nil
}

// socket makes one for connections of p.
func (a *Acceptor) socket(p *pooled, family int, multipath bool) (int, syscall.Errno) {
	if p.network == nil {
		return a.sys.Socket(family, multipath)
	}
	if errno := a.visit(p.network); errno != 0 {
		return -1, errno
	}
	fd, errno := a.sys.Socket(family, multipath)
	a.comeBack(p.network)
	return fd, errno
}

// sourceTo is what a connection of p to an address would come from.
func (a *Acceptor) sourceTo(p *pooled, to netip.AddrPort) netip.Addr {
	if p.network == nil {
		return a.sys.SourceTo(to)
	}
	if a.visit(p.network) != 0 {
		return netip.Addr{}
	}
	from := a.sys.SourceTo(to)
	a.comeBack(p.network)
	return from
}

// visit takes this thread to n, and keeps it for the caller until comeBack. After an errno it
// is where it was.
func (a *Acceptor) visit(n *network) syscall.Errno {
	runtime.LockOSThread()
	errno := a.sys.Enter(n.to)
	if errno != 0 {
		runtime.UnlockOSThread()
	}
	return errno
}

// backTries at a millisecond each are made to come back: what may lack is memory alone.
const backTries = 1000

// comeBack ends visit. A thread that can't come back must not be used any more: others would make
// sockets in a namespace that is not theirs, and not know it. So the process ends, and is
// started anew by what started it.
func (a *Acceptor) comeBack(n *network) {
	for i := 0; ; i++ {
		errno := a.sys.Enter(n.back)
		if errno == 0 {
			runtime.UnlockOSThread()
			return
		}
		if i == backTries {
			panic(fmt.Sprintf("acceptor %d can't leave the network namespace of a pool: setns: %v", a.Seat, errno))
		}
		time.Sleep(time.Millisecond)
	}
}

// mayBe says whether connections of p may come to an address of the service: the file of a unix
// socket is the same in all network namespaces.
func mayBe(o Own, p *pool.Pool) bool {
	path, is := pool.UnixPath(o.Addr)
	return o.Netns == p.Netns || is && path[0] != '@'
}
