package control

import (
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// needs are the descriptors of a service before its first session, worked out from its
// configuration: what run refuses for lack of them, check refuses too.
//
//	control plane   own │ listeners x (acceptors' sockets, rows, program) │ acceptors x 4 │ spare
//	                    └ mode goroutine: acceptors open sessions up to spare
//	each worker     own │ listeners x (socket, rows) │ a hung sibling's sockets │ mailboxes │ sessions
type needs struct {
	mode                 string
	listeners, acceptors int
	steered              bool // by programs
	lookups              int  // of names at a time
}

const (
	// ownFDs are a process's own: the standard three, the board, the loops of the Go
	// runtime and of the watchdog, the admin endpoint's (14 in all), and what is open
	// for a moment: files of /proc, the start of a worker. Lookups are extra.
	ownFDs = 24
	// seatFDs are those of an acceptor beside its sockets: the two ends of its mailbox,
	// and its epoll and eventfd, or the connection to its worker and the pidfd.
	seatFDs = 4
	// programFDs are those of a listener's program, its maps and its BTF.
	programFDs = 6

	// spareFDs are for the control plane, where it lives in the acceptors' process: a
	// service that is full of sessions must still answer /livez and /metrics, on as many
	// connections as the admin endpoint may have, over TCP and over its socket (64 each).
	spareFDs = 32 + 2*64

	sessionFDs = 2 // the client's and the backend's
)

// needsOf are those of a configuration, and of the listeners and acceptors that still
// leave.
func needsOf(c config.Config, listeners, acceptors int) needs {
	n := needs{mode: c.Acceptors.Mode, listeners: c.Addresses() + listeners, acceptors: c.Acceptors.Number() + acceptors}
	for _, p := range c.Pools {
		for _, b := range p.Backends {
			if _, _, is := nameOf(b); is {
				n.lookups = c.DNS.Concurrency
			}
		}
	}
	n.steered = n.acceptors > 1 && c.Acceptors.Steering != config.SteeringHash && c.Acceptors.Steering != config.SteeringCPU
	return n
}

// control is what the process with the listening sockets needs.
func (n needs) control() int {
	each := n.acceptors + 1 // and the rows
	if n.steered {
		each += programFDs
	}
	return ownFDs + n.lookups + n.listeners*each + n.acceptors*seatFDs
}

// worker is what a worker process needs.
func (n needs) worker() int {
	return ownFDs + 2*n.listeners + n.listeners + 1 + n.acceptors
}

// spare is how many of nofile descriptors the control plane keeps from sessions.
func spare(nofile int) int { return min(spareFDs, nofile/4) }

// sessions is how many there is room for, in one process.
func (n needs) sessions(nofile int) int {
	if n.mode == config.ModeGoroutine {
		return (sessionsBelow(nofile, n.acceptors) - n.control()) / sessionFDs
	}
	if nofile-spare(nofile) < n.control() {
		return 0
	}
	return (nofile - n.worker()) / sessionFDs
}

// sessionsBelow is the first descriptor that n acceptors in the control plane's process
// leave to it. Each may have taken one when it finds that it is too many.
func sessionsBelow(nofile, n int) int { return nofile - n - spare(nofile) }

// check says what is too little for a service that can serve: a session for each acceptor.
func (n needs) check(nofile int) error {
	least := n.acceptors
	if n.mode == config.ModeProcess {
		least = 1
	}
	if n.sessions(nofile) >= least {
		return nil
	}
	enough := sort.Search(1<<30, func(limit int) bool { return n.sessions(limit) >= least })
	return fmt.Errorf("%d open files are too few: %d listeners with %d acceptors need %d before the first session, and a limit of at least %d: "+
		"ulimit -n %[5]d, LimitNOFILE=%[5]d, or docker run --ulimit nofile=%[5]d:%[5]d", nofile, n.listeners, n.acceptors, max(n.control(), n.workerIfAny()), enough)
}

func (n needs) workerIfAny() int {
	if n.mode == config.ModeProcess {
		return n.worker()
	}
	return 0
}

// String says what check tells a person.
func (n needs) String() string {
	if n.mode == config.ModeProcess {
		return fmt.Sprintf("%d open files in the supervisor and %d in each worker, before the first session", n.control(), n.worker())
	}
	return fmt.Sprintf("%d open files before the first session", n.control())
}

// Check says what a configuration needs of this machine, or that run would not start for
// lack of it: open files, and the board, which takes addresses and hardly any memory.
func Check(c config.Config) (text string, err error) {
	n := needsOf(c, 0, 0)
	nofile, err := raiseNoFile()
	if err != nil {
		return "", err
	}
	if err := n.check(int(nofile)); err != nil {
		return "", err
	}
	b, err := metrics.NewBoard()
	if err != nil {
		return "", err
	}
	return n.String(), b.Close()
}

// checkNeeds says whether the descriptors suffice for c beside what leaves then.
func (s *service) checkNeeds(c config.Config, before *state) error {
	kept, has := map[metrics.ID]bool{}, before.byAddress()
	for _, at := range addressesOf(c) {
		if f := has[at.key()]; f != nil && f.keeps(at.listener, at.bind) {
			kept[f.id] = true
		}
	}
	leaving := 0
	for _, f := range before.fronts {
		if f.group.Len() > 0 && !kept[f.id] {
			leaving++
		}
	}
	seats := len(before.seats) + len(s.retiring)
	return needsOf(c, leaving, max(seats-c.Acceptors.Number(), 0)).check(int(s.nofile))
}

// raiseNoFile lifts the limit of open files to the hard one and returns it.
func raiseNoFile() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit nofile: %w", err)
	}
	if l.Cur < l.Max {
		l.Cur = l.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return 0, fmt.Errorf("setrlimit nofile %d: %w", l.Max, err)
		}
	}
	return l.Cur, nil
}
