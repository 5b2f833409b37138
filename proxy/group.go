package proxy

import (
	"slices"
	"syscall"

	"sluice/metrics"
)

// Row is where an acceptor tells steering how it stands on one listener, and reads
// how the others stand. It is shared memory: all calls come from acceptors' loops,
// whichever process they run in, and cost no system call.
type Row interface {
	Load() int64    // connections it holds or is about to get
	Pick()          // one more was picked for it
	Accepted()      // one has come, a picked one if any is in flight: it is held now
	Lost()          // one has gone to another acceptor, the same
	Hold(n int64)   // it holds n more than before, not by being picked
	Open(open bool) // whether it takes new connections

	// Beat notes that it turned at CLOCK_MONOTONIC now; empty: nothing waits for it.
	// It returns whether picks are out of which nothing has come yet: some never will, and
	// another Beat soon forgives those.
	Beat(now int64, empty bool) (inFlight bool)
}

// handOffAt is how many more connections than the least loaded an acceptor must
// hold to pass one on. With 1 the two would differ by nothing after it, but every
// ripple of short connections would be smoothed at the cost of a system call each
// way; 2 leaves at most 2 between the highest and the lowest.
const handOffAt = 2

// lighter returns the acceptor that should have a connection accepted on l in our
// place, or -1.
func (a *Acceptor) lighter(l *listener) int {
	if !l.HandOff || l.phase != PhaseServing {
		return -1
	}
	own := l.Rows[a.Seat].Load()
	best, least := -1, own-handOffAt+1
	n := len(a.bound.siblings)
	a.rotation++
	for j := range n {
		b := a.bound.siblings[(a.rotation+j)%n]
		if b.seat == a.Seat || b.cells.Accepting.Load() == 0 || b.cells.Hung.Load() != 0 || a.bound.mail[b.seat] < 0 {
			continue
		}
		if load := l.Rows[b.seat].Load(); load < least {
			best, least = b.seat, load
		}
	}
	return best
}

// passOn hands a connection that was accepted on l to another acceptor. It returns
// false, and the connection stays here, when that one's mail is full.
func (a *Acceptor) passOn(l *listener, to, fd int) bool {
	l.Rows[to].Pick()
	if errno := a.sys.SendFD(a.bound.mail[to], uint64(l.ID), fd); errno != 0 {
		l.Rows[to].Lost()
		return false
	}
	l.cells.HandedOff.Add(1)
	a.sys.Close(fd)
	return true
}

// receive takes what others have passed on to the acceptor of (itself, or a hung
// one), at most a budget's worth.
func (a *Acceptor) receive(of *served) {
	for range acceptBudget {
		label, fd, errno := a.sys.ReceiveFD(of.sockets.Mail)
		if errno != 0 {
			return // EAGAIN: there is no more
		}
		if source := callMail - label; source == 0 {
			a.lines.due = true
			continue
		} else if source <= metrics.MaxSources {
			a.callOwn(uint32(source))
			continue
		}
		l := a.bound.find(metrics.ID(label))
		if l == nil { // its listener has gone meanwhile, or the number is another's now
			if fd >= 0 {
				a.sys.Reset(fd)
			}
			continue
		}
		l.cells.Taken.Add(1)
		if fd < 0 { // no descriptor was free to receive it with; the kernel has closed it
			l.Rows[of.seat].Lost()
			l.cells.Closed[metrics.ReasonInternal].Add(1)
			a.noteLost(l)
			l.cells.Duration.Observe(0)
			a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: syscall.EMFILE})
			return
		}
		if of.seat == a.Seat {
			l.Rows[of.seat].Accepted()
		} else {
			l.Rows[of.seat].Lost()
			l.Rows[a.Seat].Hold(1)
		}
		a.settle(l)
		a.admit(l, fd)
	}
}

// ready names a socket that epoll reported: seat of's socket of a listener, by its
// index, or (listener = mailbox) what is passed on to it.
type ready struct{ of, listener int }

const mailbox = -1

// served is a seat whose sockets are accepted from.
type served struct {
	seat    int
	sockets Sockets
}

// servedSeat finds a seat among those served; nil when it is no longer.
func (a *Acceptor) servedSeat(seat int) *served {
	for i := range a.serving {
		if a.serving[i].seat == seat {
			return &a.serving[i]
		}
	}
	return nil
}

// socketOf is its socket of l, or -1.
func (v *served) socketOf(l *listener) int {
	if fd, ok := v.sockets.Listeners[l.ID]; ok {
		return fd
	}
	return -1
}

// rescue begins or, without sockets, ends to serve a sibling's sockets.
func (a *Acceptor) rescue(seat int, sockets *Sockets) {
	if seat == a.Seat {
		return
	}
	i := slices.IndexFunc(a.serving, func(v served) bool { return v.seat == seat })
	if i >= 0 && sockets == nil {
		a.unwatchSockets(&a.serving[i])
		a.serving = slices.Delete(a.serving, i, i+1)
	}
	if sockets == nil {
		return
	}
	if i < 0 {
		i = len(a.serving)
		a.serving = append(a.serving, served{seat: seat})
		a.takeOver(func(s int) bool { return s == seat })
	}
	a.serving[i].sockets = *sockets
	a.watchSockets(&a.serving[i])
}
