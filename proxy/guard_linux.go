package proxy

import (
	"net/netip"

	"sluice/metrics"
)

// Guard is how a listener treats connections before they become sessions. The zero Guard
// lets all in, and costs nothing.
type Guard struct {
	Access uint64 // number of the access set, which a View has; 0 = everybody may connect
	Refuse Refuse // what is done to those that may not
}

// Refuse is how a connection is turned away.
type Refuse uint8

// The ways to turn a connection away.
const (
	RefuseRST    Refuse = iota // it is reset
	RefuseFIN                  // it is closed without a byte
	RefuseSilent               // the client is told nothing, as far as the kernel allows
)

// guarded says whether there is anything to ask before a session begins.
func (l *listener) guarded() bool { return l.admitted != nil }

// mayEnter judges a connection by its client's address, before it takes a place. One that
// may not enter is counted and turned away: fd is closed then.
func (a *Acceptor) mayEnter(l *listener, fd int) bool {
	reject, ok := a.judge(l, a.sys.PeerAddr(fd).Addr())
	if ok {
		return true
	}
	l.cells.Rejected[reject].Add(1)
	a.noteReject(l, fd, reject)
	a.drop(l)
	a.turnAway(l, fd)
	return false
}

// judge says why a client may not enter.
func (a *Acceptor) judge(l *listener, client netip.Addr) (reject metrics.Reject, ok bool) {
	if l.admitted != nil && !l.admitted.Admits(client) {
		return metrics.RejectDenied, false
	}
	return 0, true
}

// turnAway closes a connection as the listener says.
func (a *Acceptor) turnAway(l *listener, fd int) {
	switch l.Guard.Refuse {
	case RefuseFIN:
		// What is unread would make close(2) send a RST.
		for range 4 { // 256 KiB: more is not on its way before the client has heard of us
			if n, errno := a.sys.Read(fd, a.buffer); errno != 0 || n <= 0 {
				break
			}
		}
		a.sys.Close(fd)
	case RefuseSilent:
		a.sys.Vanish(fd)
	default:
		a.sys.Reset(fd)
	}
}
