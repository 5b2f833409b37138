package metrics

// Reason says why a session ended. The set is closed: it is a metric label, a
// log field and a promise to those who write alerts on it. Exactly one reason
// is counted for every accepted connection that became a session.
type Reason uint8

// The close reasons, in the order of their cells on the board. New ones are
// appended, never inserted, here and below: the order is part of the shared-memory
// layout, which keeps places for them (maxReasons and its like).
const (
	ReasonClientEOF      Reason = iota // both halves ended by FIN, the client's came first; or it left without a word while it waited for a backend
	ReasonBackendEOF                   // both halves ended by FIN, the backend's came first
	ReasonClientReset                  // the client's connection broke (RST, or an error that means one)
	ReasonBackendReset                 // the backend's connection broke
	ReasonConnectFailed                // no backend took the connection within the retry budget; the last try was refused or unreachable
	ReasonConnectTimeout               // the same; the last try got no answer within connect_timeout
	ReasonNoBackend                    // the pool has no backend that may be picked
	ReasonIdleTimeout                  // neither half moved for idle_timeout
	ReasonHalfClosed                   // one half ended and the other did not move for half_closed_timeout
	ReasonMaxDuration                  // max_duration (with jitter) reached
	ReasonFirstByte                    // the client sent nothing within first_byte_timeout
	ReasonDrainDeadline                // still running when drain_timeout ended
	ReasonWorkerDied                   // the process that held it ended (process mode); counted by the supervisor
	ReasonInternal                     // a fault of sluice's own or of the machine (no memory, no descriptor for the backend)
	ReasonLoop                         // the backend is a listener of the service itself

	ReasonProxyMissing    // the client sent no PROXY header and must
	ReasonProxyMalformed  // its PROXY header is wrong
	ReasonProxyUntrusted  // a PROXY header is required, and the client may not send one
	ReasonHelloMalformed  // its TLS ClientHello is wrong
	ReasonPreambleTimeout // it had not said within preamble_timeout what routing needs

	ReasonBackendDown  // checks say that its backend is down, and the pool has on_down = "cut"
	ReasonKilled       // an operator ended it: sluice kill
	ReasonBackendLeft  // its backend, or the address of it, left the pool, which has leave = "cut"
	ReasonRebalanced   // its pool moves sessions to backends that have fewer
	ReasonQueueFull    // every backend that may be picked has max_sessions, and the pool's queue is full or there is none
	ReasonQueueTimeout // the same, and none came free within queue_timeout

	// The client that a PROXY header named may not enter, as Reject says of others.
	ReasonDenied
	ReasonSourceSessions
	ReasonSourceRate
	ReasonRate

	ReasonStartTLSRefused // the backend was asked for TLS, and answered something else than yes, or closed
	ReasonStartTLSTimeout // the same, and it did not answer within connect_timeout
	NumReasons
)

var reasonNames = [NumReasons]string{
	"client_eof", "backend_eof", "client_reset", "backend_reset", "connect_failed", "connect_timeout", "no_backend",
	"idle_timeout", "half_closed_timeout", "max_duration", "first_byte_timeout", "drain_deadline", "worker_died", "internal_error", "loop",
	"proxy_missing", "proxy_malformed", "proxy_untrusted", "hello_malformed", "preamble_timeout",
	"backend_down",
	"killed", "backend_left", "rebalanced",
	"queue_full", "queue_timeout",
	"denied", "source_sessions", "source_rate", "rate",
	"starttls_refused", "starttls_timeout",
}

func (r Reason) String() string { return nameOf(reasonNames[:], int(r)) }

// AcceptError classifies a failed accept4(2).
type AcceptError uint8

// The accept errors of the board.
const (
	AcceptEMFILE AcceptError = iota // the process is out of descriptors
	AcceptENFILE                    // the machine is out of descriptors
	AcceptENOBUFS
	AcceptENOMEM
	AcceptECONNABORTED // the peer was gone before accept; life, not a fault
	AcceptEPERM        // a firewall rule or a sandbox forbids it
	AcceptOther
	NumAcceptErrors
)

var acceptErrorNames = [NumAcceptErrors]string{"emfile", "enfile", "enobufs", "enomem", "econnaborted", "eperm", "other"}

func (e AcceptError) String() string { return nameOf(acceptErrorNames[:], int(e)) }

// Reject says why an accepted connection was closed before it became a session.
type Reject uint8

// The rejections of the board.
const (
	RejectMaxSessions    Reject = iota // limits.max_sessions or the listener's max_sessions reached
	RejectDenied                       // the client's address may not connect: allow and deny of the listener
	RejectSourceSessions               // its source has as many sessions as it may
	RejectSourceRate                   // its source comes more often than it may
	RejectRate                         // the listener gets more new sessions than it takes
	NumRejects
)

var rejectNames = [NumRejects]string{"max_sessions", "denied", "source_sessions", "source_rate", "rate"}

func (r Reject) String() string { return nameOf(rejectNames[:], int(r)) }

// ConnectError classifies a connection to a backend that did not come about.
type ConnectError uint8

// The connect errors of the board.
const (
	ConnectRefused     ConnectError = iota // RST to our SYN: nothing listens there
	ConnectTimeout                         // no answer within connect_timeout
	ConnectUnreachable                     // no route, or an ICMP error
	ConnectReset                           // broken before it was established
	ConnectNoPorts                         // no source port left towards this address
	ConnectOther                           // everything else, a lack of descriptors included
	ConnectNoSource                        // the pool's source is no address of this machine
	ConnectNoFamily                        // this machine, or the pool's source, has no address of that family
	NumConnectErrors
)

var connectErrorNames = [NumConnectErrors]string{"refused", "timeout", "unreachable", "reset", "no_ports", "other", "no_source", "no_family"}

func (e ConnectError) String() string { return nameOf(connectErrorNames[:], int(e)) }

// ProbeEnd is how a probe of a failing target ended.
type ProbeEnd uint8

// The ends of a probe.
const (
	ProbeConnected ProbeEnd = iota // the target takes connections again
	ProbeFailed                    // it was refused, got no answer, or found no way
	NumProbeEnds
)

var probeEndNames = [NumProbeEnds]string{"connected", "failed"}

// EjectReason says why a target is picked last.
type EjectReason uint8

// The reasons of an ejection.
const (
	EjectConnect    EjectReason = iota // it did not take connections
	EjectEarlyClose                    // it closed sessions before it had said a word
	NumEjectReasons
)

var ejectReasonNames = [NumEjectReasons]string{"connect", "early_close"}

func (r EjectReason) String() string { return nameOf(ejectReasonNames[:], int(r)) }

// WaitEnd is how a session's wait ended, for a backend or for another session of its source.
type WaitEnd uint8

// The ends of a wait.
const (
	WaitConnected WaitEnd = iota // a backend took it
	WaitClosed                   // the session ended first, by whatever reason
	WaitAdmitted                 // its source had room for it
	NumWaitEnds
)

var waitEndNames = [NumWaitEnds]string{"connected", "closed", "admitted"}

// QueueEnd is how a session's wait in a pool's queue ended.
type QueueEnd uint8

// The ends of a wait in a queue.
const (
	QueueServed  QueueEnd = iota // it got a place at a backend
	QueueTimeout                 // none came free within queue_timeout
	QueueLeft                    // the session ended first, or its listener has another pool now
	QueueFull                    // it was not let in
	NumQueueEnds
)

var queueEndNames = [NumQueueEnds]string{"served", "timeout", "left", "full"}

// Path is how bytes were moved: through a pipe by splice(2), or through a buffer.
type Path uint8

// The paths of the board.
const (
	PathCopy Path = iota
	PathSplice
	NumPaths
)

var pathNames = [NumPaths]string{"copy", "splice"}

func (p Path) String() string { return nameOf(pathNames[:], int(p)) }

// directionNames are the two halves of a session, as the keys of bandwidth limits name them.
var directionNames = [2]string{"upload", "download"}

// The results of a reload.
const (
	ReloadSuccess = "success"
	ReloadRefused = "refused" // the new configuration is wrong
	ReloadFailed  = "failed"  // it is right, and could not be put in force
)

var reloadResults = [...]string{ReloadSuccess, ReloadRefused, ReloadFailed}

// The ways in which a line of the access log is lost.
const (
	AccessOverwritten = "overwritten" // its record, before it was read: an acceptor was too far ahead
	AccessUnwritten   = "unwritten"   // its place took nothing: a full disk, a stuck reader
	AccessDamaged     = "damaged"     // its record is none: a worker has written at random
)

var accessLosses = [...]string{AccessOverwritten, AccessUnwritten, AccessDamaged}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}
