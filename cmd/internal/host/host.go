// Package host is where acceptors live: as threads of this process, or each in a
// worker process that a supervisor keeps alive. The caller can't tell which.
//
//	control ─ Prepare(Orders) ─► every acceptor binds them, or one says why not ─► error: nothing has changed
//	        ─ Commit() ────────► they take effect; no acceptor is waited for
//	        ─ Rescue, Find, Survey, Close
//	        ◄ Gone(seat) ─────── an acceptor whose seat the Plan no longer names has ended
//
//	mode goroutine:  threads ──Bind, Commit──► proxy.Acceptor, one per seat
//
//	mode process:    supervisor ── the state that each seat should be in
//	                    │ brief: one goroutine per worker; compares that with what the worker was told,
//	                    │        sends one order, waits for its answer, and compares again
//	                    ▼
//	                 worker ── obeys on a goroutine of its own ──Bind, Commit──► proxy.Acceptor, its only one
//
// Nothing is queued: a worker that was stopped through many Plans is told the last one
// when it goes on. A successor of one that died is told all in the same way.
//
// Who owns what: the caller owns the board, the sockets, the rows and the mailboxes, and
// may close what the Orders no longer name once Commit has returned (threads: once
// the acceptors show the Plan's generation, too). Workers have descriptors of their own
// and close them by themselves.
//
// Reading order: orders.go, threads.go; then supervisor.go, keep.go (a worker's lives),
// brief.go, told.go (what is told next) and the worker's end of it: worker_linux.go,
// holdings_linux.go, letgo_linux.go, orphan_linux.go. On the side: find.go, survey.go, rescue.go.
package host

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// Host is where the acceptors of a service live. Prepare and Commit are called by one
// goroutine, one at a time; everything else by any, also while those run.
type Host interface {
	// Prepare has every acceptor of the Plan's seats bind the Orders, and starts those
	// that do not exist yet. After an error nothing has changed. A worker that is hung,
	// dead or does not answer is not waited for.
	Prepare(o Orders) error
	// Commit puts in force what was prepared last. It waits for no acceptor.
	Commit()
	// Rescue has acceptor by serve the sockets of a hung one, until on is false. It waits for nothing.
	Rescue(by, hung int, on bool)
	// Find tells which acceptor's session reaches its backend from source. It takes seconds at most.
	Find(source netip.AddrPort) (seat int, ok bool)
	// Run starts a command and waits for it, as cmd.Run does. As PID 1 this process buries
	// orphans: of other children it would take the exit status away.
	Run(cmd *exec.Cmd) error

	// Survey asks acceptors, each for something of its own, and returns the answers that come
	// by the time that the Surveys say, which is the same in all: what is asked of others does
	// not happen later. silent are the others: hung, dead, too slow. The time bounds the call.
	Survey(asks map[int]proxy.Survey) (answers map[int]proxy.Surveyed, silent []int)
	// Close ends all acceptors, and what they run. It takes seconds at most. A thread that
	// has not ended by then is left to the end of the process, which must be near.
	Close()
	Workers() []metrics.Worker     // the processes
	Placement() []metrics.Acceptor // which acceptor lives in which worker, and whether it leaves
}

// Options is what a Host is made of.
type Options struct {
	Mode    string                                         // Goroutine or Process
	Log     *slog.Logger                                   // must not block
	Board   *metrics.Board                                 // outlives the Host
	Journal *journal.Journal                               // the same
	Notices chan proxy.Notice                              // outlives the Host; one that is not taken is lost
	Lost    func(seat int, sessions map[metrics.ID]uint64) // by listener, that a worker took with it when it died; must not wait; may be nil
	Gone    func(seat int)                                 // the acceptor has ended, the seat may be given to another; called by any goroutine; may be nil
}

// The modes.
const (
	Goroutine = "goroutine" // every acceptor a thread of this process
	Process   = "process"   // every acceptor in a worker process
)

const (
	// answerWithin bounds how long Prepare waits for a worker that runs: binding takes
	// milliseconds. One that is stopped or stuck must not hold up the others.
	answerWithin = 2 * time.Second
	// startWithin bounds the start of a worker: a few milliseconds of work, on a
	// machine that may be starting everything else, too.
	startWithin = 30 * time.Second
	// closeWithin is how long an acceptor that was told to end may take.
	closeWithin = 2 * time.Second
)

var (
	errClosed = errors.New("host is closed")
	errEnding = errors.New("the acceptor that had this seat has not ended yet")
)

// New makes a host without acceptors. As PID 1 it waits for orphans from then on,
// to the end of the process.
func New(o Options) Host {
	if o.Gone == nil {
		o.Gone = func(int) {}
	}
	r := newReaper()
	if os.Getpid() == 1 {
		go r.reapOrphans()
	}
	if o.Mode == Process {
		return newSupervisor(o, r)
	}
	return newThreads(o, r)
}
