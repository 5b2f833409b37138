package proxy

import (
	"net/netip"
	"syscall"

	"sluice/metrics"
)

// Notice is a change of state that an operator should read in the log. The loop
// never logs by itself: a log that blocks would block it.
type Notice struct {
	Acceptor int
	Kind     NoticeKind
	Name     string // listener, or pool/backend
	Errno    syscall.Errno
	Class    metrics.ConnectError // of those about a connect
	Source   netip.Addr           `json:",omitzero"` // of NoticeNoSource: the address that is not here; of NoticeNotAsClient: the client's; of NoticeBadPreamble: whose it was
	Text     string               `json:",omitzero"` // of NoticeBadPreamble: what is wrong with it; of NoticeNoTLS: what it said
}

// NoticeKind says what changed.
type NoticeKind uint8

// The notices.
const (
	NoticeAcceptPaused    NoticeKind = iota // no descriptors or memory: accepting waits
	NoticeAcceptResumed                     // and goes on
	NoticeNoPorts                           // no source port left towards a backend
	NoticeConnectFailed                     // a backend did not take a connection (the first of a run of failures)
	NoticeConnectRestored                   // and takes them again
	NoticeSpliceDenied                      // splice(2) is not to be had: all is copied from now on
	NoticeNoSource                          // the source of a pool is no address of this machine
	NoticeLoop                              // a backend is a listener of this service
	NoticeBadPreamble                       // a client was refused for what it said first
	NoticeEjected                           // a backend has closed too many sessions early
	NoticeEjectionCapped                    // another one has, and enough of its pool are out
	NoticeNoTLS                             // a backend was asked for TLS, and did not say yes
	NoticeNotAsClient                       // a client's address can't be the source of a connection
	NoticeNoMultipath                       // the kernel has no Multipath TCP: a pool's connections are plain ones
)

func (a *Acceptor) notify(n Notice) {
	n.Acceptor = a.Seat
	select {
	case a.Notices <- n:
	default: // nil or full: the counters tell the rest
	}
}
