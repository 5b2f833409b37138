package proxy

import (
	"math"
	"net/netip"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

// A probe is a connect without a client: it finds out whether a failing target takes
// connections again, so that no session has to.
//
//	failing ──its time is over──► probed ──answered──► works
//	   ▲                             │
//	   └─── twice the time ◄─────────┘ refused, no answer within connect_timeout
//
// One acceptor makes it, that of Failure.Seat; for the time of the probe the target's
// next one is put off, so no other does. It is reset as soon as it is established, its
// ACK held back: a server does not even see it, and does not count an aborted connection.
type probes struct {
	mine map[metrics.ID]struct{} // failing targets that this acceptor looks after
	due  int64                   // clock at which one of them, or of those below, may be due
	runs [maxProbes]probe
	free []int32 // of runs
}

// probe is one under way.
type probe struct {
	id    metrics.ID // 0 = none
	fd    int32
	uses  int32 // counts them; an event of an older one is stale
	until int64 // clock
}

const (
	// maxProbes at a time: with targets that are silent for a connect_timeout of 3 s
	// that is 20 a second, and the descriptors they take are few.
	maxProbes = 64
	// probeRest is the least time between two looks at what is due, so that ten thousand
	// failing targets cost ten looks a second (0.2 ms each), and no more.
	probeRest = 100 * time.Millisecond
	usesMask  = 1<<24 - 1
)

func newProbes() probes {
	p := probes{mine: map[metrics.ID]struct{}{}, due: math.MaxInt64}
	for i := range int32(maxProbes) {
		p.free = append(p.free, maxProbes-1-i)
	}
	return p
}

// add has a target looked after from now on.
func (p *probes) add(id metrics.ID, f metrics.Failure) {
	p.mine[id] = struct{}{}
	p.due = min(p.due, int64(f.Until()))
}

// probeDue begins the probes that are due and ends those that got no answer.
func (a *Acceptor) probeDue() {
	if a.now < a.probes.due {
		return
	}
	for i := range a.probes.runs {
		if r := &a.probes.runs[i]; r.id != 0 && a.now >= r.until {
			a.probed(int32(i), metrics.ConnectTimeout, syscall.ETIMEDOUT)
		}
	}
	next := int64(math.MaxInt64)
	for id := range a.probes.mine {
		if at := a.probeAt(id); at > a.now {
			next = min(next, at)
		} else if at >= 0 && a.probe(id) {
			next = min(next, a.probeAt(id))
		} else {
			delete(a.probes.mine, id)
		}
	}
	for i := range a.probes.runs {
		if r := &a.probes.runs[i]; r.id != 0 {
			next = min(next, r.until)
		}
	}
	a.probes.due = max(next, a.now+int64(probeRest))
	if next == math.MaxInt64 {
		a.probes.due = next
	}
}

// probeAt is the clock at which a target is due; below 0 = this acceptor need not look
// after it: it works, it is another's, or no Plan has it. A time that no acceptor can
// have written is over.
func (a *Acceptor) probeAt(id metrics.ID) int64 {
	f := a.Board.Failing()[id.Index()].Load()
	p, _ := a.bound.target(id)
	if f == 0 || f.Seat() != a.Seat || p == nil {
		return -1
	}
	if at := int64(f.Until()); at <= a.now+int64(2*max(longestTime, p.Ejection.MaxTime)+p.ConnectTimeout) {
		return at
	}
	return 0
}

// probe begins the probe of a target and puts its next one off. It returns false when
// another has noted something of the target meanwhile.
func (a *Acceptor) probe(id metrics.ID) bool {
	p, t := a.bound.target(id)
	cell := &a.Board.Failing()[id.Index()]
	was := cell.Load()
	free := len(a.probes.free) - 1
	if free < 0 {
		return was.Seat() == a.Seat // looked at again after probeRest
	}
	off := metrics.NewFailure(time.Duration(a.now)+p.ConnectTimeout+suspectAfter, was.Failures(), a.Seat, was.Class())
	if was == 0 || !cell.CompareAndSwap(was, off) {
		return false
	}
	slot := a.probes.free[free]
	a.probes.free = a.probes.free[:free]
	r := &a.probes.runs[slot]
	r.id, r.fd, r.uses, r.until = id, -1, (r.uses+1)&usesMask, a.now+int64(p.ConnectTimeout)
	if class, errno := a.beginProbe(slot, r, p, t.Addr); errno != syscall.EINPROGRESS {
		a.probed(slot, class, errno)
	}
	return true
}

func (a *Acceptor) beginProbe(slot int32, r *probe, p *pooled, to netip.AddrPort) (metrics.ConnectError, syscall.Errno) {
	if !p.reaches(sys.FamilyOf(to)) {
		return classifyConnect(syscall.EAFNOSUPPORT), syscall.EAFNOSUPPORT
	}
	fd, errno := a.socket(p, sys.FamilyOf(to), false) // a Multipath TCP socket can't hold its ACK back
	if errno != 0 {
		return classifyConnect(errno), errno
	}
	a.sys.HoldAck(fd)
	fd, class, errno := a.begin(fd, p, to, netip.Addr{}, 0)
	r.fd = int32(fd)
	if errno == syscall.EINPROGRESS {
		if e := a.sys.Watch(a.epoll, fd, syscall.EpollEvent{Events: epollOut | uint32(epollET), Fd: r.uses<<6 | slot, Pad: padProbe}); e != 0 {
			return classifyConnect(e), e
		}
	}
	return class, errno
}

// probeTold handles an event of a probe.
func (a *Acceptor) probeTold(ev *syscall.EpollEvent) {
	slot := ev.Fd & (maxProbes - 1)
	r := &a.probes.runs[slot]
	if r.id == 0 || r.uses != ev.Fd>>6 {
		return
	}
	fd := int(r.fd)
	switch {
	case ev.Events&(epollErr|epollHup) != 0:
		errno := a.sys.SockError(fd)
		a.probed(slot, classifyConnect(errno), errno)
	case a.sys.LocalAddr(fd) == a.sys.PeerAddr(fd): // see metItself
		a.probed(slot, metrics.ConnectRefused, syscall.ECONNREFUSED)
	default:
		a.probed(slot, 0, 0)
	}
}

// probed ends a probe; errno 0 = the target took it, else class says what it means.
func (a *Acceptor) probed(slot int32, class metrics.ConnectError, errno syscall.Errno) {
	r := &a.probes.runs[slot]
	id := r.id
	a.endProbe(slot)
	p, _ := a.bound.target(id)
	if p == nil { // a Plan has left it out
		return
	}
	c := a.Board.Target(a.Seat, id)
	if errno == 0 {
		c.Probes[metrics.ProbeConnected].Add(1)
		a.restore(p, id)
		return
	}
	was := a.Board.Failing()[id.Index()].Load()
	if lacking(errno) || was == 0 || was.Seat() != a.Seat {
		return // a lack is sluice's own: the probe was put off, and comes then
	}
	c.Probes[metrics.ProbeFailed].Add(1)
	if ranksLast(class) {
		a.failedAgain(p, id, was, class)
	}
}

// endProbe gives back what a probe held.
func (a *Acceptor) endProbe(slot int32) {
	r := &a.probes.runs[slot]
	if r.fd >= 0 {
		a.sys.Reset(int(r.fd))
	}
	r.id, r.fd = 0, -1
	a.probes.free = append(a.probes.free, slot)
}

// endProbes ends all that are under way.
func (a *Acceptor) endProbes() {
	for i := range a.probes.runs {
		if a.probes.runs[i].id != 0 {
			a.endProbe(int32(i))
		}
	}
}
