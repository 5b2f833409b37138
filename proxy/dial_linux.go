package proxy

import (
	"net/netip"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// dial gives s a backend: it picks one and starts to connect, and goes on to the
// next when that fails at once. Data that the client sends meanwhile stays in its
// socket.
func (a *Acceptor) dial(slot int32, s *session) {
	for {
		p := &a.pools[a.listeners[s.listener].pool]
		i := p.picker.Pick(s.tried, a.source(s, p))
		if i < 0 {
			a.setLacking(s, false) // it wanted a descriptor for a backend that is no more
			a.noneLeft(slot, s, p)
			return
		}
		errno := a.connect(slot, s, p, i)
		a.setLacking(s, lacking(errno))
		if errno == 0 || errno == syscall.EINPROGRESS {
			s.until = a.tick + ticks(p.ConnectTimeout)
			a.setState(slot, s, stateDialing)
			return
		}
		if lacking(errno) {
			s.tried &^= pool.TriedBit(i) // it was not the backend's fault
			a.pause(Notice{Kind: NoticeAcceptPaused, Name: a.listeners[s.listener].Name, Errno: errno})
			a.park(slot, s)
			return
		}
		if !a.tryAgain(slot, s, p, classifyConnect(errno)) {
			return
		}
	}
}

// source is the client's address if p picks by it. Sessions of other pools are spared
// the system call; one whose client has gone gets the zero Addr, and ends soon.
func (a *Acceptor) source(s *session, p *pooled) netip.Addr {
	if p.Pick != pool.SourceHash {
		return netip.Addr{}
	}
	return a.sys.peerAddr(int(s.fd[client])).Addr()
}

// connect starts a connection to backend i of p. After any other errno than 0 and
// EINPROGRESS the session holds no backend descriptor.
func (a *Acceptor) connect(slot int32, s *session, p *pooled, i int) syscall.Errno {
	b := &a.backends[p.slots[i]]
	s.backend = p.slots[i]
	addrs := p.Backends[i].Addrs
	if s.tries == 0 {
		b.next++
		s.turn = b.next
	}
	addr := addrs[(int(s.turn)+int(s.tries))%len(addrs)]
	if int(s.tries)+1 >= len(addrs) { // a name with several addresses may be picked again for the next one
		s.tried |= pool.TriedBit(i)
	}

	fd, errno := a.sys.socket(familyOf(addr))
	if errno != 0 {
		return errno
	}
	b.cells.Attempts.Add(1)
	b.cells.Active.Add(1)
	s.picked = true
	s.fd[backend], s.ready[backend], s.dialed = int32(fd), 0, a.now
	if p.Source.IsValid() {
		errno = a.sys.bind(fd, p.Source)
	}
	if errno == 0 {
		errno = a.sys.connect(fd, addr)
	}
	if errno == 0 || errno == syscall.EINPROGRESS {
		if e := a.watch(slot, s, backend); e != 0 {
			errno = e
		}
	}
	if errno != 0 && errno != syscall.EINPROGRESS {
		a.dropBackend(s)
	}
	return errno
}

// dropBackend gives back what s holds of a backend that it does not relay with.
func (a *Acceptor) dropBackend(s *session) {
	if s.fd[backend] >= 0 {
		a.sys.close(int(s.fd[backend]))
		s.fd[backend], s.ready[backend] = -1, 0
	}
	if s.picked {
		s.picked = false
		a.backends[s.backend].cells.Active.Add(-1)
	}
}

// dialing looks what became of a connect.
//
//	client   backend   what
//	ERR HUP  any       the client has gone: end
//	any      ERR HUP   refused or unreachable: SO_ERROR says which; next backend
//	any      OUT       established; or with itself, which is refused
//	any      -         still under way
//
// A client's RDHUP alone is a half-close, and no reason to end.
func (a *Acceptor) dialing(slot int32, s *session) {
	switch {
	case s.ready[client]&(broken|hup) != 0:
		a.abort(slot, s, client)
	case s.ready[backend]&(broken|hup) != 0:
		a.dialFailed(slot, s, classifyConnect(a.sys.sockError(int(s.fd[backend]))))
	case s.ready[backend]&writable != 0 && a.metItself(s):
		a.sys.reset(int(s.fd[backend])) // a FIN would leave the backend's port in TIME_WAIT
		s.fd[backend], s.ready[backend] = -1, 0
		a.dialFailed(slot, s, metrics.ConnectRefused)
	case s.ready[backend]&writable != 0:
		b := &a.backends[s.backend]
		b.cells.Sessions.Add(1)
		b.cells.Connect.Observe(time.Duration(a.now - s.dialed))
		if b.failing {
			b.failing = false
			a.notify(Notice{Kind: NoticeConnectRestored, Name: b.pool + "/" + b.name})
		}
		a.stopAwaiting(s, metrics.WaitConnected)
		s.moved = a.tick
		a.setState(slot, s, stateRelaying)
		a.relay(slot, s)
	}
}

// metItself says that a connection leads back to its own socket. Where nobody listens
// on a port of this machine, the kernel may choose that port as the source, and then
// the SYN is answered by its sender: once in 17,000 connects to a free even port of
// the ephemeral range, measured on loopback. The client would hear itself, and the
// backend find its port taken. It takes many connects that fail, so nobody else pays
// for the look.
func (a *Acceptor) metItself(s *session) bool {
	fd := int(s.fd[backend])
	return a.backends[s.backend].failing && a.sys.localAddr(fd) == a.sys.peerAddr(fd)
}

// dialFailed ends a connect that was under way and goes on to the next backend.
func (a *Acceptor) dialFailed(slot int32, s *session, class metrics.ConnectError) {
	a.dropBackend(s)
	if a.tryAgain(slot, s, &a.pools[a.listeners[s.listener].pool], class) {
		a.dial(slot, s)
	}
}

// tryAgain counts a failed try, and says whether the retry budget allows another.
// If not, the session is over.
func (a *Acceptor) tryAgain(slot int32, s *session, p *pooled, class metrics.ConnectError) bool {
	b := &a.backends[s.backend]
	b.cells.Errors[class].Add(1)
	s.lastError = class
	s.tries++
	if !b.failing {
		b.failing = true
		kind := NoticeConnectFailed
		if class == metrics.ConnectNoPorts {
			kind = NoticeNoPorts
		}
		a.notify(Notice{Kind: kind, Name: b.pool + "/" + b.name, Class: class})
	}
	if int(s.tries) > p.Retries {
		a.noneLeft(slot, s, p)
		return false
	}
	p.cells.Retries.Add(1)
	return true
}

// lacking says that it is sluice that has no descriptor or memory left.
func lacking(errno syscall.Errno) bool {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC: // ENOSPC: epoll's max_user_watches
		return true
	}
	return false
}

// classifyConnect names why a connection to a backend did not come about.
func classifyConnect(errno syscall.Errno) metrics.ConnectError {
	switch errno {
	case syscall.ECONNREFUSED:
		return metrics.ConnectRefused
	case syscall.ETIMEDOUT:
		return metrics.ConnectTimeout
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ENONET:
		return metrics.ConnectUnreachable
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return metrics.ConnectReset
	case syscall.EADDRNOTAVAIL, syscall.EAGAIN, syscall.EADDRINUSE:
		return metrics.ConnectNoPorts
	}
	return metrics.ConnectOther
}
