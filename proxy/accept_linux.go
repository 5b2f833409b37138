package proxy

import (
	"syscall"
	"time"

	"sluice/metrics"
)

const (
	// acceptBudget connections a turn and listener: HAProxy measured 4 to be better
	// than 64 at every number of threads (its commit 66161326f).
	acceptBudget = 4
	// A lack of descriptors or memory makes accepting pause, 10 ms doubling to 1 s.
	minPause = 10 * time.Millisecond
	maxPause = time.Second
)

// watchListener asks epoll to tell of waiting connections, level-triggered: what is
// left in the queue is told again.
func (a *Acceptor) watchListener(i int) {
	l := &a.listeners[i]
	if l.accepting || a.stopped {
		return
	}
	errno := a.sys.watch(a.epoll, l.fd, &syscall.EpollEvent{Events: epollIn, Fd: int32(i), Pad: padListener})
	l.accepting = errno == 0 || errno == syscall.EEXIST
}

func (a *Acceptor) unwatchListener(i int) {
	l := &a.listeners[i]
	if l.accepting {
		a.sys.unwatch(a.epoll, l.fd)
		l.accepting, l.ready = false, false
	}
}

// acceptReady takes new connections from the listeners that epoll named.
func (a *Acceptor) acceptReady() {
	if a.paused && a.now >= a.resumeAt {
		a.paused = false
		for i := range a.listeners {
			a.watchListener(i)
		}
	}
	for i := range a.listeners {
		if !a.listeners[i].ready {
			continue
		}
		a.listeners[i].ready = false
		for n := 0; n < acceptBudget && a.acceptFrom(i); n++ {
		}
	}
}

// acceptFrom takes one connection from listener i's queue. It returns false when
// there is nothing more to take now.
func (a *Acceptor) acceptFrom(i int) bool {
	l := &a.listeners[i]
	fd, errno := a.sys.accept(l.fd)
	if errno == 0 {
		a.admit(i, fd)
		return true
	}
	if errno == syscall.EAGAIN {
		if a.pauseFor > 0 { // the queue that built up during a lack is empty
			a.pauseFor = 0
			a.notify(Notice{Kind: NoticeAcceptResumed, Name: l.Name})
		}
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
	// Whatever else it is, it took a broken connection off the queue (accept(2) passes
	// on errors of the new socket) or will be told again.
	return !lack && class != metrics.AcceptOther
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
	return metrics.AcceptOther, false
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
	for i := range a.listeners {
		a.unwatchListener(i)
	}
}

// admit makes a session of an accepted connection and starts its dial, or closes it
// with a RST when a limit is reached.
func (a *Acceptor) admit(i, fd int) {
	l := &a.listeners[i]
	l.cells.Accepted.Add(1)
	if !a.takePlace(l) {
		l.cells.Rejected[metrics.RejectMaxSessions].Add(1)
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

// takePlace counts a session in, unless a limit over all acceptors is reached.
//
// Each acceptor adds to its own cells first and looks at the sum after, so the limit
// is never exceeded. Two that want the last place at the same time both see one too
// many; they step back and look again a random number of times, so that one gets it.
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
