package proxy

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy/access"
	"sluice/proxy/internal/sys"
)

// Options is what an acceptor is made of. It does not know whether it is a thread
// of one process or alone in a worker.
type Options struct {
	Seat    int // its number, 0..metrics.MaxAcceptors-1
	Board   *metrics.Board
	Notices chan Notice        // may be nil; a full channel loses the notice
	Journal *journal.Writer    // where it writes down what AcceptorCells.Record asks for; nil = nowhere
	Restore func(fd int) error // undoes, on an accepted connection, what its listening socket was given before PhaseLeaving
	Settings
}

// Settings are what differs from one service, or one seat, to another. They hold for
// an acceptor's life.
type Settings struct {
	MaxPipes int   `json:"max_pipes"`      // most pipes at a time; each is two descriptors
	MaxFD    int   `json:"max_fd"`         // descriptors from this number on are left to the rest of the process; 0 = none are
	CPUs     []int `json:"cpus,omitempty"` // run on these only; empty = on any
	Batch    bool  `json:"batch"`          // be scheduled in batches while busy
}

// Acceptor is one event loop with its socket of every listener's group, and the
// sessions it accepted there. All of it but inbox belongs to the loop.
type Acceptor struct {
	Options
	cells *metrics.AcceptorCells
	sys   sys.Calls

	bound *Bound // the Plan it runs
	clock
	loop
	intake
	holdings
	journaling
	guarding
	inbox
}

// clock is CLOCK_MONOTONIC as the loop read it last.
type clock struct {
	now   int64 // nanoseconds
	tick  uint32
	start time.Time // and the clock then
	base  int64
}

// loop is how it waits for events and finds them.
type loop struct {
	epoll   int
	wakeFD  int
	events  []syscall.EpollEvent
	running bool
	busy    bool  // it found much in the turns before the schedulers last saw it, and has not waited in vain since
	yielded int64 // now, when the schedulers last saw the loop
	found   int   // events and splices since then
	turned  int   // and turns
	behind  int   // turns that deadlines have waited for
}

// intake is how it accepts, and helps siblings with it.
type intake struct {
	serving  []served // whose sockets it accepts from: first its own, then hung siblings'
	ready    []ready  // which of these epoll named in this turn
	settling []*listener
	burst    int // how many connections a turn takes from a queue now
	accepted uint64
	rotation int // where the search for a lighter acceptor starts

	paused   bool  // accepting waits for descriptors or memory
	lacking  int   // sessions that wait for a descriptor to dial with
	resumeAt int64 // clock at which it is tried again
	pauseFor time.Duration
}

// holdings are the sessions it holds, and what they need.
type holdings struct {
	slab     slab
	openings openings
	lines    lines
	wheel    *wheel
	runs     runList // sessions with something to do
	streams  runList // of these, those that stream: they come last
	sweep    sweep
	pipes    pipes
	spills   spills
	buffer   []byte // for one read at a time
	random   *rand.Rand
	probes   probes
	surveys  surveys
	pacings  []pacing // by slot, as long as the last that needed one
}

// bufferSize is the acceptor's one read buffer. A read that fills streamSize of it
// speaks for splice(2), see relay_linux.go.
const bufferSize = 64 << 10

// New makes an acceptor that does nothing yet: it is given a Plan by Bind and Commit,
// and Run starts it.
func New(o Options) (*Acceptor, error) {
	a := &Acceptor{Options: o, cells: o.Board.Acceptor(o.Seat), sys: sys.Linux(), bound: &Bound{plan: &Plan{}, own: Sockets{Mail: -1}}}
	a.events = make([]syscall.EpollEvent, maxEvents)
	a.serving = []served{{seat: o.Seat}}
	a.slab, a.openings, a.buffer = newSlab(), newOpenings(), make([]byte, bufferSize)
	a.runs, a.streams = newRunList(), newRunList()
	a.random = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(o.Seat)))
	a.slab.first = a.random.Uint32() & genMask
	a.probes = newProbes()
	a.sources = access.NewSources(o.Board, o.Seat)
	a.ended = make(chan struct{})
	if o.MaxFD > 0 {
		a.sys.LeaveFrom(o.MaxFD)
	}
	a.pipes = pipes{sys: &a.sys, cells: a.cells, limit: o.MaxPipes}
	a.spills = spills{cells: a.cells}
	a.startClock()
	a.wheel = newWheel(&a.slab, a.tick)
	if err := a.openLoop(); err != nil {
		return nil, fmt.Errorf("acceptor %d: %w", o.Seat, err)
	}
	return a, nil
}
