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
	// more for each short connection; each turn in which epoll names the queues again
	// doubles that, and the first EAGAIN ends it.
	acceptBudget = 4
	// Of waitSample connections one is asked how long it waited in the queue; a
	// rescued one always is.
	waitSample = 8
	// A lack of descriptors or memory makes accepting pause, 10 ms doubling to 1 s.
	minPause = 10 * time.Millisecond
	maxPause = time.Second
	// maxBacklog is the longest accept queue there can be: the kernel keeps its limit in
	// sixteen bits.
	maxBacklog = 1 << 16
)

// watchSockets asks epoll to tell of connections that wait for the acceptor of,
// level-triggered: it names a queue again while something is left in it.
func (a *Acceptor) watchSockets(of *served) {
	for _, l := range a.bound.listeners {
		if l.phase.accepts() {
			a.watchSocket(l, of)
		}
	}
	a.watchMail(of)
}

func (a *Acceptor) watchSocket(l *listener, of *served) {
	fd := of.socketOf(l)
	if a.paused || fd < 0 {
		return
	}
	events := uint32(epollIn)
	if l.Unix { // siblings watch the same queue: a connection wakes one of those that sleep
		events |= epollExclusive
	}
	errno := a.sys.Watch(a.epoll, fd, syscall.EpollEvent{Events: events, Fd: int32(of.seat<<16) | int32(l.ID.Index()), Pad: padListener})
	if errno != 0 && errno != syscall.EEXIST { // a lack of memory: without another try epoll would never name the queue
		a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: errno})
	}
}

// watchMail is the same for what is passed on. Mail is read for as long as there is an
// acceptor: a sibling may have sent something before it knew that this one leaves.
func (a *Acceptor) watchMail(of *served) {
	if a.paused || of.sockets.Mail < 0 {
		return
	}
	errno := a.sys.Watch(a.epoll, of.sockets.Mail, syscall.EpollEvent{Events: epollIn, Fd: int32(of.seat << 16), Pad: padMail})
	if errno != 0 && errno != syscall.EEXIST {
		a.pause(Notice{Kind: NoticeAcceptPaused, Errno: errno})
	}
}

func (a *Acceptor) unwatchSockets(of *served) {
	for _, l := range a.bound.listeners {
		if fd := of.socketOf(l); fd >= 0 && l.phase.accepts() { // else the descriptor may be another file's by now
			a.sys.Unwatch(a.epoll, fd)
		}
	}
	if of.sockets.Mail >= 0 {
		a.sys.Unwatch(a.epoll, of.sockets.Mail)
	}
}

// acceptRest empties the queues of a listener from which nothing is accepted after it.
func (a *Acceptor) acceptRest(l *listener) {
	for i := range a.serving {
		of := &a.serving[i]
		if of.socketOf(l) < 0 {
			continue
		}
		for n := 0; n < maxBacklog && a.acceptFrom(l, of); n++ {
		}
		a.sys.Unwatch(a.epoll, of.socketOf(l))
	}
}

// acceptReady takes new connections from the queues that epoll named.
func (a *Acceptor) acceptReady() {
	if a.pauseFor > 0 && !a.paused && len(a.ready) == 0 { // the queues that built up during a lack are empty
		a.pauseFor = 0
		a.notify(Notice{Kind: NoticeAcceptResumed})
	}
	// Accepted sessions that lack a descriptor come first.
	if a.paused && a.now >= a.resumeAt && a.lacking == 0 {
		a.paused = false
		a.cells.Paused.Store(0)
		a.open(true)
		for i := range a.serving {
			a.watchSockets(&a.serving[i])
		}
	}
	if len(a.ready) == 0 {
		a.burst = 0
		return
	}
	a.burst = min(max(2*a.burst, 1), acceptBudget)
	for _, r := range a.ready {
		of := a.servedSeat(r.of)
		switch {
		case a.paused:
			return
		case of == nil: // it no longer hangs, and epoll named it before that
		case r.listener == mailbox:
			a.receive(of)
		default:
			l := a.listenerAt(r.listener)
			if l == nil || !l.phase.accepts() { // a Plan came in between
				continue
			}
			for n := 0; n < a.burst && !a.paused && a.acceptFrom(l, of); n++ {
			}
		}
	}
}

// acceptFrom takes one connection from the queue of l's socket that belongs to the
// seat of. It returns false when there is nothing more to take now.
func (a *Acceptor) acceptFrom(l *listener, of *served) bool {
	fd, errno := a.sys.Accept(of.socketOf(l))
	if errno == 0 {
		l.cells.Accepted.Add(1)
		if of.seat != a.Seat {
			l.cells.Rescued.Add(1)
		}
		if a.phaseAt(l, of.seat) == PhaseLeaving {
			_ = a.Restore(fd) // it fails only where quiescing did
		}
		if a.accepted++; a.accepted%waitSample == 0 || of.seat != a.Seat {
			if age := a.sys.Age(fd); age >= 0 {
				l.cells.Wait.Observe(age)
			}
		}
		if to := a.lighter(l); to < 0 || !a.passOn(l, to, fd) {
			a.countHeld(l, of.seat)
			a.admit(l, fd)
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
	// An error that is no lack took a broken connection off the queue: accept(2) passes
	// on errors of the new socket.
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
	case syscall.EPERM: // a firewall or a sandbox: epoll would name the queue again for ever
		return metrics.AcceptEPERM, true
	}
	if peers(errno) {
		return metrics.AcceptECONNABORTED, false
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
	a.cells.Paused.Store(1)
	a.open(false)
	for i := range a.serving {
		a.unwatchSockets(&a.serving[i])
	}
}

// countHeld tells steering of a connection from seat of's queue that stays here.
func (a *Acceptor) countHeld(l *listener, of int) {
	switch {
	case l.Rows == nil:
		return
	case l.HandOff: // what is in flight was passed on, and comes by mail
		l.Rows[a.Seat].Hold(1)
	case of == a.Seat:
		l.Rows[of].Accepted()
	default:
		l.Rows[of].Lost()
		l.Rows[a.Seat].Hold(1)
	}
	a.settle(l)
}

// admit makes a session of an accepted connection and opens it, or closes it
// with a RST when a limit is reached. The rows count it as held already.
func (a *Acceptor) admit(l *listener, fd int) {
	var in entry
	if l.guarded() && !l.learns() {
		var ok bool
		if in, ok = a.enter(l, fd); !ok {
			return
		}
	}
	if !a.takePlace(l) {
		l.cells.Rejected[metrics.RejectMaxSessions].Add(1)
		a.noteReject(l, fd, metrics.RejectMaxSessions)
		a.sources.Leave(in.source)
		if in.barred != 0 {
			l.cells.Waiting.Add(-1)
		}
		a.drop(l)
		a.sys.Reset(fd)
		return
	}
	slot, s := a.slab.get()
	a.holdSource(slot, in.source)
	s.listener = uint16(l.ID.Index())
	s.fd = [2]int32{int32(fd), -1}
	s.opened, s.moved = a.now, a.tick
	l.cells.Opened.Add(s.opened)
	s.half[toBackend].splicing = l.Relay == RelaySplice
	s.half[toClient].splicing = l.Relay == RelaySplice
	s.maxTick = a.maxTickOf(l, s)
	s.opening = a.openings.lend()
	a.noteAccepted(slot, s)
	if in.gone {
		a.end(slot, s, brokenAt(client))
		return
	}
	a.openings.of(s).awaiting = in.barred != 0
	if errno := a.watch(slot, s, client); errno != 0 {
		a.pause(Notice{Kind: NoticeAcceptPaused, Name: l.Name, Errno: errno})
		a.end(slot, s, cutFor(metrics.ReasonInternal))
		return
	}
	switch {
	case in.barred != 0:
		a.carryOn(slot, s, a.bar(slot, s, l, in.barred))
		return
	case in.wait > 0:
		a.carryOn(slot, s, a.hold(s, in.wait))
		return
	}
	a.carryOn(slot, s, a.ask(slot, s))
}

// drop tells steering that a connection is no longer held.
func (a *Acceptor) drop(l *listener) {
	if l.Rows != nil {
		l.Rows[a.Seat].Hold(-1)
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
		if a.sumOver(l, func(c *metrics.ListenerCells) *metrics.Gauge { return &c.Active }) > int64(l.MaxSessions) {
			return true
		}
	}
	if limit := a.bound.plan.MaxSessions; limit > 0 {
		var sum int64
		for _, b := range a.bound.siblings {
			sum += b.cells.Sessions.Load()
		}
		return sum > int64(limit)
	}
	return false
}

// sumOver adds up a gauge of a listener over all acceptors, and over all its addresses.
func (a *Acceptor) sumOver(l *listener, gauge func(*metrics.ListenerCells) *metrics.Gauge) (sum int64) {
	for _, b := range a.bound.siblings {
		sum += gauge(a.Board.Listener(b.seat, l.ID)).Load()
		for _, id := range l.others {
			sum += gauge(a.Board.Listener(b.seat, id)).Load()
		}
	}
	return sum
}
