package proxy

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// dial gives s a backend: it picks one and starts to connect, and goes on to the
// next when that fails at once. Data that the client sends meanwhile stays in its
// socket.
func (a *Acceptor) dial(slot int32, s *session) outcome {
	o := a.openings.of(s)
	for {
		p := a.poolOf(s)
		if a.mustQueue(s, p) {
			return a.queueUp(slot, s, p)
		}
		if p.budget != nil && !o.earned {
			o.earned = true
			p.budget.earn()
		}
		from := a.source(s, p)
		if p.Transparent && !from.IsValid() && !a.listenerOf(s).Unix {
			return over(brokenAt(client)) // it has gone: no connect is made in its name, nor with ours
		}
		i := p.picker.Pick(o.tried[:o.tries], from)
		if i == pool.Full {
			a.setLacking(s, false)
			return a.queueUp(slot, s, p)
		}
		if i < 0 {
			a.setLacking(s, false) // it wanted a descriptor for a backend that is no more
			return a.noneLeft(s, p)
		}
		t := &p.Targets[i]
		if p.own != nil && a.isOwn(p, i) {
			a.complain(p, Notice{Kind: NoticeLoop, Name: p.nameOf(t.ID)})
			return over(cutFor(metrics.ReasonLoop))
		}
		o.resort, o.suspected = a.Board.Failing()[t.ID.Index()].Load() != 0, false
		class, errno := a.connect(slot, s, p, t, from)
		a.setLacking(s, lacking(errno))
		switch {
		case errno == noPlace: // another session got the last one
		case errno == 0 || errno == syscall.EINPROGRESS:
			o.until = a.tick + ticks(min(p.ConnectTimeout, suspectAfter))
			return outcome{state: stateDialing}
		case lacking(errno): // it was not the backend's fault
			a.pause(Notice{Kind: NoticeAcceptPaused, Name: a.listenerOf(s).Name, Errno: errno})
			return a.park(s)
		case !a.mayTryAgain(s, p, t.ID, class, true):
			return a.noneLeft(s, p)
		}
	}
}

// source is the client's address if p picks by it, or connects with it. Sessions of other pools are spared
// the system call; one whose client has gone gets the zero Addr, and ends soon.
func (a *Acceptor) source(s *session, p *pooled) netip.Addr {
	if p.Pick != pool.SourceHash && !p.Transparent {
		return netip.Addr{}
	}
	return a.clientOf(s).Addr()
}

// noPlace is no errno of a connect: the target has max_sessions.
const noPlace = syscall.EUSERS

// connect starts a connection to t, for a client at from. After any other errno than 0 and EINPROGRESS, which
// class explains, the session holds no backend descriptor.
func (a *Acceptor) connect(slot int32, s *session, p *pooled, t *pool.Target, from netip.Addr) (class metrics.ConnectError, errno syscall.Errno) {
	fd, errno := a.socketTo(p, t.Addr)
	if errno != 0 {
		return classifyConnect(errno), errno
	}
	if !a.pick(s, t.ID) {
		a.sys.Close(fd)
		return metrics.ConnectOther, noPlace
	}
	s.fd[backend], s.ready[backend] = int32(fd), 0
	a.openings.of(s).dialed = a.now
	a.noteDial(s, t.ID)
	fd, class, errno = a.begin(fd, p, t.Addr, from, a.listenerOf(s).ToBackend.Buffer)
	s.fd[backend] = int32(fd)
	a.openings.of(s).joined = errno == 0
	if errno == 0 || errno == syscall.EINPROGRESS {
		if e := a.watch(slot, s, backend); e != 0 {
			class, errno = classifyConnect(e), e
		}
	}
	if errno != 0 && errno != syscall.EINPROGRESS {
		a.dropBackend(s)
	}
	return class, errno
}

// socketTo makes a socket for connections of p to an address.
func (a *Acceptor) socketTo(p *pooled, to netip.AddrPort) (int, syscall.Errno) {
	family := sys.FamilyOf(to)
	if !p.reaches(family) {
		return -1, syscall.EAFNOSUPPORT
	}
	fd, errno := a.socket(p, family, p.Multipath)
	if p.Multipath && noMultipath(errno) {
		a.tellNoMultipath(p, errno)
		fd, errno = a.socket(p, family, false)
	}
	return fd, errno
}

// begin prepares a socket with buffers of so many bytes (0 = as the kernel has them) and
// what p says, and connects it: from a source of p if it has
// some, or from the client's address if p is Transparent (the zero Addr = there is no client). It returns the socket, or another one in its place; -1 = that could not be had.
// EADDRNOTAVAIL has three causes, which only the step that gave it and a second question
// tell apart.
//
//	bind                             the source is not here
//	connect, a way has no source     IPv6 is off, or has a route and no address
//	connect, a way has a source      all of its ports are in use
//
// A unix socket is connected at once, or says EAGAIN: its queue is full. That is taken for
// a lack of ports: the session waits a moment and asks again.
func (a *Acceptor) begin(fd int, p *pooled, to netip.AddrPort, from netip.Addr, buffer int) (int, metrics.ConnectError, syscall.Errno) {
	family := sys.FamilyOf(to)
	if errno := a.prepare(fd, family, p, buffer); errno != 0 {
		return fd, classifyConnect(errno), errno
	}
	switch {
	case family == syscall.AF_UNIX:
	case len(p.Sources) > 0:
		return a.beginFrom(fd, p, to, buffer)
	case p.Transparent && from.IsValid():
		class, errno := a.beginAs(fd, p, from, to)
		return fd, class, errno
	}
	class, errno := a.way(fd, p, to)
	return fd, class, errno
}

// prepare gives a socket what it needs before it connects.
func (a *Acceptor) prepare(fd, family int, p *pooled, buffer int) syscall.Errno {
	if buffer > 0 {
		a.sys.SetBuffer(fd, buffer)
	}
	if p.Early == (pool.Early{}) || family == syscall.AF_UNIX {
		return 0
	}
	return a.sys.Prepare(fd, family, (*sys.Early)(&p.Early))
}

// pick counts s on a target: in the word that pickers look at, which all acceptors
// share, and in the cell that says what to give back should this process die.
// One that is full takes none.
func (a *Acceptor) pick(s *session, id metrics.ID) bool {
	s.target = uint16(id.Index())
	c := a.targetOf(s)
	if l := metrics.Limit(a.Board.Limits()[s.target].Load()); l == 0 {
		a.Board.Held()[s.target].Add(1) // first: a death in between leaves the word one too high, and never too low
		c.Active.Add(1)
	} else if !a.takePlaceAt(s.target, l, c) {
		return false
	}
	a.openings.of(s).target, s.picked = id, true
	c.Attempts.Add(1)
	a.leaveQueue(s, metrics.QueueServed)
	return true
}

func (a *Acceptor) unpick(s *session) {
	if s.picked {
		s.picked = false
		c := a.targetOf(s)
		if l := metrics.Limit(a.Board.Limits()[s.target].Load()); l != 0 {
			a.givePlaceBack(s.target, l, c)
			return
		}
		c.Active.Add(-1)
		a.Board.Held()[s.target].Add(-1)
	}
}

// dropBackend gives back what s holds of a backend that it does not relay with.
func (a *Acceptor) dropBackend(s *session) {
	if s.fd[backend] >= 0 {
		a.sys.Close(int(s.fd[backend]))
		s.fd[backend], s.ready[backend] = -1, 0
	}
	a.unpick(s)
}

// dialing looks what became of a connect.
//
//	client   backend   what
//	ERR HUP  any       the client has gone: end
//	any      ERR HUP   refused or unreachable: SO_ERROR says which; next backend. A unix socket
//	                   is connected before it is looked at: it has answered and closed
//	any      OUT       established; or with itself, which is refused
//	any      -         still under way
//
// A client's RDHUP alone is a half-close, and no reason to end.
func (a *Acceptor) dialing(slot int32, s *session) outcome {
	switch {
	case a.isLost(s):
		return over(brokenAt(client))
	case s.ready[backend]&(broken|hup) != 0 && !a.openings.of(s).joined:
		return a.dialFailed(slot, s, classifyConnect(a.sys.SockError(int(s.fd[backend]))))
	case s.ready[backend]&writable == 0:
		return outcome{state: stateDialing}
	case a.metItself(s):
		a.sys.Reset(int(s.fd[backend])) // a FIN would leave the backend's port in TIME_WAIT
		s.fd[backend], s.ready[backend] = -1, 0
		return a.dialFailed(slot, s, metrics.ConnectRefused)
	}
	if o, ok := a.introduce(slot, s); !ok {
		return o
	}
	s.tuned = !a.listenerOf(s).ToBackend.Wanted()
	c := a.targetOf(s)
	c.Sessions.Add(1)
	took, p, id := time.Duration(a.now-a.openings.of(s).dialed), a.poolOf(s), a.openings.of(s).target
	c.Connect.Observe(took)
	p.Took(a.Board, id, time.Duration(a.now), took)
	a.noteConnected(s)
	a.works(p, id)
	if o := a.openings.of(s); o.upgrade {
		o.until, s.proving = a.tickAt(o.dialed)+ticks(p.ConnectTimeout), a.provingFrom(p)
		return a.upgrading(slot, s)
	}
	return outcome{state: stateRelaying}
}

// metItself says that a connection leads back to its own socket. Where nobody listens
// on a port of this machine, the kernel may choose that port as the source, and then
// the SYN is answered by its sender: once in 17,000 connects to a free even port of
// the ephemeral range, measured on loopback. The client would hear itself, and the
// backend find its port taken. It takes many connects that fail, so no other pays for
// the look.
func (a *Acceptor) metItself(s *session) bool {
	if a.Board.Failing()[s.target].Load() == 0 {
		return false
	}
	fd := int(s.fd[backend])
	local := a.sys.LocalAddr(fd)
	return local.IsValid() && local == a.sys.PeerAddr(fd) // a unix socket has neither
}

// dialFailed ends a connect that was under way and goes on to the next backend.
func (a *Acceptor) dialFailed(slot int32, s *session, class metrics.ConnectError) outcome {
	p := a.poolOf(s)
	id := a.openings.of(s).target
	a.dropBackend(s)
	if a.mayTryAgain(s, p, id, class, false) {
		return a.dial(slot, s)
	}
	return a.noneLeft(s, p)
}

// unanswered is called when a connect has had no answer for some time: its target is
// ranked last from then on, and the session goes on to wait. If another one does so
// already, this one goes to another; but once only, for with a network that slow it
// would find the same everywhere.
func (a *Acceptor) unanswered(slot int32, s *session) outcome {
	o, p := a.openings.of(s), a.poolOf(s)
	if !o.resort && !o.evaded && a.Board.Failing()[o.target.Index()].Load() != 0 && o.tries < maxTries && a.hasOther(p, o) {
		o.evaded = true
		a.targetOf(s).Errors[metrics.ConnectTimeout].Add(1)
		a.noteDialFailed(s, metrics.ConnectTimeout)
		o.lastError, o.failed = metrics.ConnectTimeout, true
		o.tried[o.tries] = o.target
		o.tries++
		p.cells.Retries.Add(1)
		a.dropBackend(s)
		return a.dial(slot, s)
	}
	o.suspected = true
	o.until = a.tickAt(o.dialed) + ticks(p.ConnectTimeout)
	a.suspect(p, o.target)
	return outcome{state: stateDialing}
}

// hasOther says whether p has a target that works and has not failed the session.
func (a *Acceptor) hasOther(p *pooled, o *opening) bool {
	failing, weights := a.Board.Failing(), a.Board.Weights()
	for i := range p.Targets {
		id := p.Targets[i].ID
		if failing[id.Index()].Load() == 0 && weights[id.Index()].Load() != 0 && !slices.Contains(o.tried[:o.tries], id) {
			return true
		}
	}
	return false
}

// mayTryAgain counts a failed try, and says whether another follows. The retry budget
// pays for it, but not for
//
//	no way there, known at once   an address family that this machine does not have
//	an answer that says no        by a target that was not known to fail: that it does is news,
//	                              and costs each target one try in the time it is ranked last
//
// So the first session after backends have died finds one that lives, and the others do
// not meet the dead. Where retries = 0 only the first is spared.
func (a *Acceptor) mayTryAgain(s *session, p *pooled, id metrics.ID, class metrics.ConnectError, atOnce bool) bool {
	o := a.openings.of(s)
	a.targetOf(s).Errors[class].Add(1)
	a.noteDialFailed(s, class)
	o.lastError, o.failed = class, true
	a.failed(p, id, class)
	if class == metrics.ConnectNoSource {
		return false // no other address of its family would do better, nor a moment later
	}
	noWay := class == metrics.ConnectNoFamily || atOnce && class == metrics.ConnectUnreachable
	answered := class == metrics.ConnectRefused || class == metrics.ConnectReset
	switch {
	case !noWay && (!answered || o.resort || p.Retries == 0):
		o.charged++
		if int(o.charged) <= p.Retries && p.budget != nil && !p.budget.pays(a.now) {
			p.cells.Unpaid.Add(1)
			return false
		}
	case o.spared < maxSpared:
		o.spared++
	default:
		return false
	}
	if int(o.charged) > p.Retries || o.resort && o.tries == maxTries {
		return false
	}
	if o.tries < maxTries { // one that is not noted is ranked last by now
		o.tried[o.tries] = id
		o.tries++
	}
	p.cells.Retries.Add(1)
	return true
}

// target finds one by its index on the board; nil if the Plan does not have it. It is for
// what happens seldom.
func (p *pooled) target(index uint16) *pool.Target {
	for i := range p.Targets {
		if t := &p.Targets[i]; t.ID.Index() == uint32(index) {
			return t
		}
	}
	return nil
}

// nameOf is what the log calls a target.
func (p *pooled) nameOf(id metrics.ID) string {
	for i := range p.Targets {
		if t := &p.Targets[i]; t.ID == id {
			if addr := pool.AddressText(t.Addr); addr != t.Backend {
				return p.Name + "/" + t.Backend + " (" + addr + ")"
			}
			return p.Name + "/" + t.Backend
		}
	}
	return p.Name
}

// lacking says that it is sluice that has no descriptor or memory left.
func lacking(errno syscall.Errno) bool {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC: // ENOSPC: epoll's max_user_watches
		return true
	}
	return false
}

// classifyConnect names why a connection to a backend did not come about, as far as the
// errno tells: see begin.
func classifyConnect(errno syscall.Errno) metrics.ConnectError {
	switch errno {
	case syscall.ECONNREFUSED, syscall.ENOENT: // ENOENT: a unix socket that is not there
		return metrics.ConnectRefused
	case syscall.ETIMEDOUT:
		return metrics.ConnectTimeout
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ENONET, syscall.ENODEV: // ENODEV: a zone without an interface
		return metrics.ConnectUnreachable
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return metrics.ConnectReset
	case syscall.EADDRNOTAVAIL, syscall.EAGAIN, syscall.EADDRINUSE:
		return metrics.ConnectNoPorts
	case syscall.EAFNOSUPPORT:
		return metrics.ConnectNoFamily
	}
	return metrics.ConnectOther
}
