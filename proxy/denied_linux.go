package proxy

import "syscall"

// Where an errno belongs.
//
//	the moment's    EAGAIN, EINTR                       call again, when epoll tells or at once
//	the peer's      ECONNRESET, EPIPE, ETIMEDOUT, ...   client_reset, backend_reset
//	sluice's lack   EMFILE, ENFILE, ENOMEM, ENOBUFS     accepting pauses, dialing waits (lacking); streams are copied
//	the machine's   all others: EPERM and ENOSYS of a   copy in place of splice(2); where there is nothing in its place
//	                sandbox, EINVAL, EOPNOTSUPP         internal_error, and never the peer's fault

// peers says that an errno is about the connection or the way to its other end: what TCP
// itself ends with, and what an ICMP error says of a connection that died of it.
func peers(errno syscall.Errno) bool {
	switch errno {
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.ECONNABORTED, syscall.ECONNREFUSED, syscall.ESHUTDOWN,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ENONET, syscall.ENETRESET,
		syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EMSGSIZE:
		return true
	}
	return false
}

// notSpliced says that splice(2) failed on a connection by what is neither the peer's nor
// the moment's. Then all is copied, at once and from then on. A lack of memory is taken for
// no more than it is: this half copies until it streams anew.
func (a *Acceptor) notSpliced(s *session, sd side, errno syscall.Errno) bool {
	switch {
	case errno == 0 || errno == syscall.EAGAIN || errno == syscall.EINTR || peers(errno) || s.ready[sd]&broken != 0:
		return false
	case lacking(errno):
		a.cells.PipeFallbacks.Add(1)
	default:
		a.cells.SpliceDenied.Add(1)
		if !a.pipes.denied {
			a.pipes.denied = true
			a.pipes.release()
			a.notify(Notice{Kind: NoticeSpliceDenied, Errno: errno})
		}
	}
	for d := range s.half {
		s.half[d].splicing = false
	}
	return true
}

// emptyPipe moves what a half holds from its pipe to a spill. There is no memory for as much
// beforehand: it happens once to a half, if at all.
func (a *Acceptor) emptyPipe(h *half) bool {
	b := make([]byte, h.held)
	for n := 0; n < len(b); {
		m, errno := a.sys.ReadPipe(a.pipes.at(h.pipe).r, b[n:])
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || m <= 0 {
			return false
		}
		n += m
	}
	a.pipes.giveBack(h.pipe)
	h.pipe, h.spill = 0, a.spills.take(b)
	return true
}
