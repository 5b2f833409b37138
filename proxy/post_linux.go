package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// inbox is how the outside reaches the loop. It is not waited for: a loop that
// hangs finds what it was sent when it goes on.
type inbox struct {
	next      atomic.Pointer[Bound] // the last one committed, until the loop has taken it
	lastBound *Bound                // by Bind; the callers' affair, one at a time

	mu        sync.Mutex // guards posted, and wakeFD against being closed under a wake
	posted    []func()
	hasPosted atomic.Bool // spares the loop the mutex
	ended     chan struct{}
}

// Commit puts b in force: between two turns, and the loop shows it in its cells
// (Generation). A later Commit takes the place of one that the loop has not yet seen.
func (a *Acceptor) Commit(b *Bound) {
	a.next.Store(b)
	a.post(nil)
}

// Rescue makes the acceptor accept from a sibling's sockets too, or with nil stops
// that. The control plane asks for it while the sibling is hung, and again after a
// Commit that brought new sockets. For its own seat it only turns once.
func (a *Acceptor) Rescue(seat int, sockets *Sockets) {
	a.post(func() { a.rescue(seat, sockets) })
}

// holdsWithin bounds how long Holds waits for the loop.
const holdsWithin = time.Second

// Holds says whether one of the sessions reaches its backend from this source
// address. It looks at each: for people who ask, not for every connection. A loop that
// does not answer in time holds nothing.
func (a *Acceptor) Holds(source netip.AddrPort) bool {
	held := make(chan bool, 1)
	a.post(func() { held <- a.holds(source) })
	select {
	case is := <-held:
		return is
	case <-a.ended:
	case <-time.After(holdsWithin):
	}
	return false
}

func (a *Acceptor) holds(source netip.AddrPort) bool {
	for slot := range a.slab.slots() {
		s := a.slab.at(slot)
		// One that is dialing may be established already, and its backend be asking.
		if (s.state == stateRelaying || s.state == stateDialing || s.state == stateUpgrading) && a.sys.LocalAddr(int(s.fd[backend])) == source {
			return true
		}
	}
	return false
}

// Close ends Run soon and waits for nothing. Sessions that still run are cut as
// internal_error; bring them to their end by a Plan first.
func (a *Acceptor) Close() {
	a.post(func() { a.running = false })
}

// Ended is closed when Run has returned.
func (a *Acceptor) Ended() <-chan struct{} { return a.ended }

// post has f run in the loop, between two turns; nil only wakes it.
func (a *Acceptor) post(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f != nil {
		a.posted = append(a.posted, f)
	}
	a.hasPosted.Store(true)
	a.wake()
}

// wake ends a wait; the caller holds mu. An eventfd that is full has woken the loop already.
func (a *Acceptor) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(a.wakeFD, one[:])
}

// runPosted does what the outside asked for.
func (a *Acceptor) runPosted() {
	if !a.hasPosted.Load() {
		return
	}
	a.mu.Lock()
	fs := a.posted
	a.posted = nil
	a.hasPosted.Store(false)
	a.mu.Unlock()
	if b := a.next.Swap(nil); b != nil {
		a.commit(b)
	}
	for _, f := range fs {
		f()
	}
}
