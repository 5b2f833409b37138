package proxy

import (
	"syscall"
	"time"

	"sluice/metrics"
)

const (
	// acceptBudget bounds the connections of a turn and queue: HAProxy measured 4 to be
	// better than 64 at every number of threads (its commit 66161326f). A turn begins
	// with one, as mostly there is no second and asking for it would be a system call
	// more for each short connection; each turn that finds the queues told of again
	// doubles that, and the first EAGAIN ends it.
	acceptBudget = 4
	// waitSample is of how many connections one is asked how long it waited in the
	// queue; a rescued one is always asked.
	waitSample = 8
	// A lack of descriptors or memory makes accepting pause, 10 ms doubling to 1 s.
	minPause = 10 * time.Millisecond
	maxPause = time.Second
)

// watchSockets asks epoll to tell of connections that wait for acceptor of,
// level-triggered: what is left in a queue is told again. Once it has stopped it
// watches its mail only: a sibling may have sent something before it knew.
func (a *Acceptor) watchSockets(of int) {
	if a.paused {
		return
	}
	for i, l := range a.listeners {
		if a.stopped {
			break
		}
		errno := a.sys.watch(a.epoll, l.Sockets[of], syscall.EpollEvent{Events: epollIn, Fd: int32(of<<16 | i), Pad: padListener})
		if errno != 0 && errno != syscall.EEXIST { // a lack of memory: without another try the queue would never be told of
			a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: errno})
			return
		}
	}
	if a.mail.Receive != nil {
		errno := a.sys.watch(a.epoll, a.mail.Receive[of], syscall.EpollEvent{Events: epollIn, Fd: int32(of << 16), Pad: padMail})
		if errno != 0 && errno != syscall.EEXIST {
			a.pause(Notice{Kind: NoticeAcceptPaused, Errno: errno})
		}
	}
}

func (a *Acceptor) unwatchSockets(of int) {
	for _, l := range a.listeners {
		if !a.stopped { // else the descriptor may be somebody else's by now
			a.sys.unwatch(a.epoll, l.Sockets[of])
		}
	}
	if a.mail.Receive != nil {
		a.sys.unwatch(a.epoll, a.mail.Receive[of])
	}
}

// acceptReady takes new connections from the queues that epoll named.
func (a *Acceptor) acceptReady() {
	if a.pauseFor > 0 && !a.paused && len(a.ready) == 0 { // the queues that built up during a lack are empty
		a.pauseFor = 0
		a.notify(Notice{Kind: NoticeAcceptResumed})
	}
	// Those who are accepted and lack a descriptor come first.
	if a.paused && a.now >= a.resumeAt && a.lacking == 0 {
		a.paused = false
		a.open(!a.stopped)
		for _, of := range a.serving {
			a.watchSockets(of)
		}
	}
	if len(a.ready) == 0 {
		a.burst = 0
		return
	}
	a.burst = min(max(2*a.burst, 1), acceptBudget)
	for _, r := range a.ready {
		switch {
		case a.paused:
			return
		case r.listener == mailbox:
			a.receive(r.of)
		case !a.stopped:
			for n := 0; n < a.burst && !a.paused && a.acceptFrom(r.listener, r.of); n++ {
			}
		}
	}
}

// acceptFrom takes one connection from the queue of listener i's socket that belongs
// to acceptor of. It returns false when there is nothing more to take now.
func (a *Acceptor) acceptFrom(i, of int) bool {
	l := &a.listeners[i]
	fd, errno := a.sys.accept(l.Sockets[of])
	if errno == 0 {
		l.cells.Accepted.Add(1)
		if of != a.id {
			l.cells.Rescued.Add(1)
		}
		if a.leaving {
			_ = a.restore(fd) // it fails only where quiescing did
		}
		if a.accepted++; a.accepted%waitSample == 0 || of != a.id {
			l.cells.Wait.Observe(a.sys.age(fd))
		}
		if to := a.lighter(l); to < 0 || !a.passOn(i, to, fd) {
			a.countHeld(l, of)
			a.admit(i, fd)
		}
		return true
	}
	if errno == syscall.EAGAIN {
		a.burst = 0
		return false
	}
	if errno == syscall.EINTR {
		return true
	}
	class, lack := classifyAccept(errno)
	l.cells.AcceptErrors[class].Add(1)
	if lack {
		a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: errno})
	}
	// What is no lack took a broken connection off the queue: accept(2) passes on errors
	// of the new socket.
	return !lack
}

// classifyAccept names a failed accept4; lack says that it will fail again until
// something is given back.
func classifyAccept(errno syscall.Errno) (class metrics.AcceptError, lack bool) {
	switch errno {
	case syscall.EMFILE:
		return metrics.AcceptEMFILE, true
	case syscall.ENFILE:
		return metrics.AcceptENFILE, true
	case syscall.ENOBUFS:
		return metrics.AcceptENOBUFS, true
	case syscall.ENOMEM:
		return metrics.AcceptENOMEM, true
	case syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.ETIMEDOUT:
		return metrics.AcceptECONNABORTED, false
	case syscall.EPERM:
		return metrics.AcceptEPERM, false
	}
	return metrics.AcceptOther, true // such as EINVAL of a socket that listens no more
}

// pause stops accepting for a while; what waits stays in the queues. The operator
// hears of it once, until a queue has been emptied again.
func (a *Acceptor) pause(n Notice) {
	if a.paused {
		return
	}
	if a.pauseFor == 0 {
		a.notify(n)
		a.pauseFor = minPause
	} else {
		a.pauseFor = min(2*a.pauseFor, maxPause)
	}
	a.cells.Backoffs.Add(1)
	a.paused, a.resumeAt = true, a.now+int64(a.pauseFor)
	a.open(false)
	for _, of := range a.serving {
		a.unwatchSockets(of)
	}
}

// countHeld tells steering of a connection from acceptor of's queue that stays here.
func (a *Acceptor) countHeld(l *listener, of int) {
	switch {
	case l.Rows == nil:
	case l.Picked && of == a.id:
		l.Rows[of].Accepted()
	case l.Picked:
		l.Rows[of].Lost()
		l.Rows[a.id].Hold(1)
	default:
		l.Rows[a.id].Hold(1)
	}
}

// admit makes a session of an accepted connection and starts its dial, or closes it
// with a RST when a limit is reached. The rows count it as held already.
func (a *Acceptor) admit(i, fd int) {
	l := &a.listeners[i]
	if !a.takePlace(l) {
		l.cells.Rejected[metrics.RejectMaxSessions].Add(1)
		a.drop(l)
		a.sys.reset(fd)
		return
	}
	slot, s := a.slab.get()
	s.listener = uint16(i)
	s.fd = [2]int32{int32(fd), -1}
	s.opened, s.moved = a.now, a.tick
	s.half[toBackend].splicing = l.Relay == RelaySplice
	s.half[toClient].splicing = l.Relay == RelaySplice
	if l.MaxDuration > 0 {
		d := l.MaxDuration - time.Duration(a.random.Float64()*l.MaxDurationJitter*float64(l.MaxDuration))
		s.maxTick = a.tick + ticks(d)
	}
	if errno := a.watch(slot, s, client); errno != 0 {
		a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: errno})
		a.cut(slot, s, metrics.ReasonInternal)
		return
	}
	a.dial(slot, s)
}

// drop tells steering that a connection is no longer held.
func (a *Acceptor) drop(l *listener) {
	if l.Rows != nil {
		l.Rows[a.id].Hold(-1)
	}
}

// takePlace counts a session in, unless a limit over all acceptors is reached.
//
// Each acceptor adds to its own cells first and looks at the sum after, so the limit
// is never exceeded. Two that want the last place at the same time both see one too
// many; they step back and look again a random number of times, so that one of
// them mostly gets it.
func (a *Acceptor) takePlace(l *listener) bool {
	for range 1 + a.random.IntN(3) {
		l.cells.Active.Add(1)
		a.cells.Sessions.Add(1)
		if !a.overLimit(l) {
			return true
		}
		l.cells.Active.Add(-1)
		a.cells.Sessions.Add(-1)
	}
	return false
}

func (a *Acceptor) overLimit(l *listener) bool {
	if l.MaxSessions > 0 {
		var sum int64
		for _, c := range l.all {
			sum += c.Active.Load()
		}
		if sum > int64(l.MaxSessions) {
			return true
		}
	}
	if a.maxSessions > 0 {
		var sum int64
		for _, c := range a.siblings {
			sum += c.Sessions.Load()
		}
		return sum > int64(a.maxSessions)
	}
	return false
}
