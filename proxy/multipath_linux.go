package proxy

import "syscall"

// A Multipath TCP socket is a TCP socket to the loop, but for what this kernel has not
// there: TCP_USER_TIMEOUT, TCP_QUICKACK and IPV6_TCLASS (Linux 6.18). splice(2) moves its
// bytes both ways; out of it the kernel copies them.

// noMultipath says that a kernel makes no Multipath TCP socket, whatever the reason:
//
//	ENOPROTOOPT                net.mptcp.enabled is 0
//	EPROTONOSUPPORT, EINVAL    it was built without it, or is older than 5.6
//
// Its connections are then plain ones, as they are where the backend can't speak it.
func noMultipath(errno syscall.Errno) bool {
	return errno == syscall.ENOPROTOOPT || errno == syscall.EPROTONOSUPPORT || errno == syscall.EINVAL
}

// tellNoMultipath tells the operator that p's connections are plain ones: once for each Plan.
func (a *Acceptor) tellNoMultipath(p *pooled, errno syscall.Errno) {
	if !p.plain {
		p.plain = true
		a.notify(Notice{Kind: NoticeNoMultipath, Name: p.Name, Errno: errno})
	}
}
