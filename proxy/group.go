package proxy

import (
	"slices"
	"syscall"

	"sluice/metrics"
)

// Group is an acceptor's view of a listener's sockets. Its own is the one with its
// number; the others' it accepts from only to rescue what waits behind a hung one.
type Group struct {
	Sockets []int // every acceptor's, listening; they stay the caller's
	Rows    []Row // every acceptor's
	Picked  bool  // a program picks acceptors by the rows
	HandOff bool  // none does: an acceptor passes on what is too much for it
}

// Row is where an acceptor tells steering how it stands on one listener, and reads
// how the others stand. It is shared memory: all calls come from acceptors' loops,
// whichever process they run in, and cost no system call.
type Row interface {
	Load() int64                // connections it holds or is about to get
	Pick()                      // one more was picked for it
	Accepted()                  // a picked one has come: it is held now
	Lost()                      // a picked one has gone to somebody else
	Hold(n int64)               // it holds n more than before, not by being picked
	Beat(now int64, empty bool) // it turned at CLOCK_MONOTONIC now; empty: nothing waits for it
	Open(open bool)             // whether it takes new connections
}

// Mail is how accepted connections are passed on. Each acceptor receives on its own
// socket and sends to everybody's, whichever process they run in.
type Mail struct {
	Receive []int // by acceptor
	Send    []int
}

const (
	// handOffAt is how many more connections than the least loaded an acceptor must
	// hold to pass one on. With 1 the two would differ by nothing after it, but every
	// ripple of short connections would be smoothed at the cost of a system call each
	// way; 2 leaves at most 2 between the highest and the lowest.
	handOffAt = 2
	// missedBeats is for how many beats an acceptor may not turn that is given work: in
	// the eyes of control, it hangs then.
	missedBeats = 4
)

// staleAfter is how old the heartbeat of an acceptor may be that is given work, in
// nanoseconds.
func (a *Acceptor) staleAfter() int64 { return missedBeats * int64(a.beat) }

// lighter returns the acceptor that should have a connection accepted on l in our
// place, or -1.
func (a *Acceptor) lighter(l *listener) int {
	if !l.HandOff {
		return -1
	}
	own := l.Rows[a.id].Load()
	best, least := -1, own-handOffAt+1
	n := len(l.Rows)
	a.rotation++
	for j := range n {
		i := (a.rotation + j) % n
		c := a.siblings[i]
		if i == a.id || c.Accepting.Load() == 0 || a.now-c.Heartbeat.Load() > a.staleAfter() {
			continue
		}
		if load := l.Rows[i].Load(); load < least {
			best, least = i, load
		}
	}
	return best
}

// passOn hands a connection that was accepted on listener i to another acceptor. It
// returns false, and the connection stays here, when that one's mail is full.
func (a *Acceptor) passOn(i, to, fd int) bool {
	l := &a.listeners[i]
	l.Rows[to].Pick()
	if errno := a.sys.sendFD(a.mail.Send[to], i, fd); errno != 0 {
		l.Rows[to].Lost()
		return false
	}
	l.cells.HandedOff.Add(1)
	a.sys.close(fd)
	return true
}

// receive takes what others have passed on to the acceptor of (itself, or a hung
// one), at most a budget's worth.
func (a *Acceptor) receive(of int) {
	for range acceptBudget {
		i, fd, errno := a.sys.receiveFD(a.mail.Receive[of])
		if errno != 0 {
			return // EAGAIN: there is no more
		}
		l := &a.listeners[i]
		l.cells.Taken.Add(1)
		if fd < 0 { // no descriptor was free to receive it with; the kernel has closed it
			l.Rows[of].Lost()
			l.cells.Closed[metrics.ReasonInternal].Add(1)
			a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: syscall.EMFILE})
			return
		}
		if of == a.id {
			l.Rows[of].Accepted()
		} else {
			l.Rows[of].Lost()
			l.Rows[a.id].Hold(1)
		}
		a.admit(i, fd)
	}
}

// Rescue makes the acceptor accept from a sibling's sockets too, or stops that. The
// control plane asks for it while the sibling is hung. It does not wait: this one may
// come to hang as well.
func (a *Acceptor) Rescue(sibling int, on bool) {
	a.post(func() {
		a.serving = slices.DeleteFunc(a.serving, func(of int) bool { return of == sibling })
		if on {
			a.serving = append(a.serving, sibling)
			a.watchSockets(sibling)
		} else {
			a.unwatchSockets(sibling)
		}
	})
}
