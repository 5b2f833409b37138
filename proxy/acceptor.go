package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// Options is what an acceptor is made of. It does not know whether it is a thread
// of one process or alone in a worker.
type Options struct {
	ID        int // 0..Acceptors-1
	Acceptors int // of the whole service, over all processes
	Board     *metrics.Board
	Plan      *Plan
	Groups    []Group            // the sockets of each of the Plan's listeners
	Mail      Mail               // needed where a Group hands off
	Notices   chan Notice        // may be nil; a full channel loses the notice
	MaxPipes  int                // most pipes at a time; each is two descriptors
	MaxFD     int                // descriptors from this number on are left to the rest of the process; 0 = none are
	Restore   func(fd int) error // undoes, on an accepted connection, what its listening socket was given before Leave
	CPUs      []int              // run on these only; empty = on any
	Batch     bool               // be scheduled in batches while busy
	Beat      time.Duration      // an idle loop turns this often, to show that it can; 0 = never
}

// Acceptor is one event loop with its socket of every listener's group, and the
// sessions it accepted there. All fields but the mailbox belong to the loop.
type Acceptor struct {
	id        int
	acceptors int
	board     *metrics.Board
	notices   chan Notice
	beat      time.Duration
	cpus      []int
	restore   func(fd int) error
	sys       sys
	cells     *metrics.AcceptorCells

	// clock: nanoseconds of CLOCK_MONOTONIC, read once a turn.
	now   int64
	tick  uint32
	start time.Time // and the clock then
	base  int64

	epoll   int
	wakeFD  int
	events  []syscall.EpollEvent
	running bool
	idle    bool  // the last wait ended without an event
	batches bool  // may ask for batch scheduling
	yielded int64 // now, when the schedulers last saw the loop
	found   int   // events and splices since then
	turned  int   // and turns

	maxSessions int
	listeners   []listener
	pools       []pooled
	backends    []backendSlot
	siblings    []*metrics.AcceptorCells // of all acceptors
	mail        Mail
	rotation    int // where the search for a lighter acceptor starts

	leaving  bool // Leave was called
	stopped  bool // StopAccepting was called
	accepted uint64
	burst    int     // how many connections a turn takes from a queue now
	serving  []int   // whose sockets it accepts from: its own, and hung siblings'
	ready    []ready // which of these epoll told of in this turn
	paused   bool    // accepting waits for descriptors or memory
	lacking  int     // sessions that wait for a descriptor to dial with
	resumeAt int64   // clock at which it is tried again
	pauseFor time.Duration

	slab   slab
	wheel  *wheel
	runs   runList
	pipes  pipes
	spills spills
	buffer []byte
	random *rand.Rand

	// mu guards posted, and wakeFD against being closed under a wake; hasPosted spares
	// the loop the mutex.
	mu        sync.Mutex
	posted    []func()
	hasPosted atomic.Bool
	ended     chan struct{}
}

// maxBacklog is the longest accept queue there can be: the kernel keeps its limit in
// sixteen bits.
const maxBacklog = 1 << 16

// bufferSize is the acceptor's one read buffer. A read that fills streamSize of it
// speaks for splice(2), see relay_linux.go.
const bufferSize = 64 << 10

// listener is an acceptor's part of a listener: its socket and what becomes of a
// connection that is accepted there.
type listener struct {
	Listener
	Group
	pool  int // index in pools
	cells *metrics.ListenerCells
	all   []*metrics.ListenerCells // of every acceptor, for max_sessions
}

// ready names a socket that epoll told of: the one of acceptor of, of a listener or
// (listener = mailbox) for what is passed on.
type ready struct{ of, listener int }

const mailbox = -1

// pooled is an acceptor's part of a pool.
type pooled struct {
	pool.Pool
	cells  *metrics.PoolCells
	picker *pool.Picker
	slots  []uint32 // the pool's backends as indexes in Acceptor.backends
}

// backendSlot is one backend of one pool. Slots are appended and keep their index,
// since sessions outlive the Plan that gave them their backend.
type backendSlot struct {
	pool, name string
	cells      *metrics.BackendCells
	next       uint16 // turn among its addresses
	failing    bool   // its last connect failed, and the operator was told
}

// New makes an acceptor that accepts nothing yet. Run starts it.
func New(o Options) (*Acceptor, error) {
	a := &Acceptor{
		id: o.ID, acceptors: o.Acceptors, board: o.Board, notices: o.Notices, beat: o.Beat, cpus: o.CPUs, restore: o.Restore, batches: o.Batch,
		mail: o.Mail, serving: []int{o.ID}, sys: linux(),
		events: make([]syscall.EpollEvent, maxEvents),
		slab:   newSlab(), runs: newRunList(), buffer: make([]byte, bufferSize),
		random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(o.ID))),
		ended:  make(chan struct{}),
	}
	for i := range o.Acceptors {
		c, err := o.Board.Acceptor(i)
		if err != nil {
			return nil, fmt.Errorf("acceptor %d: %w", o.ID, err)
		}
		a.siblings = append(a.siblings, c)
	}
	a.cells = a.siblings[o.ID]
	if o.MaxFD > 0 {
		a.sys.leaveFrom(o.MaxFD)
	}
	a.pipes = pipes{sys: &a.sys, cells: a.cells, limit: o.MaxPipes}
	a.spills = spills{cells: a.cells}
	a.startClock()
	a.wheel = newWheel(&a.slab, a.tick)
	if err := a.apply(o.Plan, o.Groups); err != nil {
		return nil, fmt.Errorf("acceptor %d: %w", o.ID, err)
	}
	if err := a.openLoop(); err != nil {
		return nil, fmt.Errorf("acceptor %d: %w", o.ID, err)
	}
	return a, nil
}

// apply makes plan the one that new sessions follow; groups is nil when the
// listeners are the same as before.
func (a *Acceptor) apply(plan *Plan, groups []Group) error {
	var pools []pooled
	index := map[string]int{}
	for _, p := range plan.prepare() {
		cells, err := a.board.Pool(p.Name, a.id)
		if err != nil {
			return err
		}
		made := pooled{Pool: p, cells: cells}
		held := make([][]*metrics.BackendCells, len(p.Backends))
		for i, b := range p.Backends {
			slot, err := a.backendSlot(p.Name, b.Name)
			if err != nil {
				return err
			}
			made.slots = append(made.slots, slot)
			for n := range a.acceptors {
				c, err := a.board.Backend(p.Name, b.Name, n)
				if err != nil {
					return err
				}
				held[i] = append(held[i], c)
			}
		}
		made.picker = pool.NewPicker(p, a.id, func(i int) (sessions int64) {
			for _, c := range held[i] {
				sessions += c.Active.Load()
			}
			return sessions
		})
		index[p.Name] = len(pools)
		pools = append(pools, made)
	}
	listeners := make([]listener, len(plan.Listeners))
	for i, l := range plan.Listeners {
		p, ok := index[l.Pool]
		if !ok {
			return fmt.Errorf("listener %q: unknown pool %q", l.Name, l.Pool)
		}
		if groups == nil {
			listeners[i] = a.listeners[i]
		} else {
			listeners[i].Group = groups[i]
		}
		listeners[i].Listener, listeners[i].pool = l, p
		listeners[i].all = nil
		for n := range a.acceptors {
			c, err := a.board.Listener(l.Name, n)
			if err != nil {
				return err
			}
			listeners[i].all = append(listeners[i].all, c)
		}
		listeners[i].cells = listeners[i].all[a.id]
	}
	a.listeners, a.pools, a.maxSessions = listeners, pools, plan.MaxSessions
	return nil
}

func (a *Acceptor) backendSlot(poolName, name string) (uint32, error) {
	for i, b := range a.backends {
		if b.pool == poolName && b.name == name {
			return uint32(i), nil
		}
	}
	cells, err := a.board.Backend(poolName, name, a.id)
	if err != nil {
		return 0, err
	}
	a.backends = append(a.backends, backendSlot{pool: poolName, name: name, cells: cells, next: uint16(a.id)})
	return uint32(len(a.backends) - 1), nil
}

// Apply publishes a Plan with the same listeners. It takes effect between two turns
// and returns when it has; running sessions finish on what they started with.
func (a *Acceptor) Apply(plan *Plan) (err error) {
	plan.prepare()
	if !a.do(func() { err = a.apply(plan, nil) }) {
		return ErrEnded
	}
	return err
}

// StartAccepting takes connections from now on. The sockets must be listening.
func (a *Acceptor) StartAccepting() {
	a.do(func() {
		a.open(!a.stopped)
		a.watchSockets(a.id)
	})
}

// Leave says that the listening sockets are about to be quiesced: what their
// connections inherit of that is undone from now on.
func (a *Acceptor) Leave() {
	a.do(func() { a.leaving = true })
}

// StopAccepting empties the accept queues a last time and watches them no more.
// It returns when that is done; the sockets may be closed then.
func (a *Acceptor) StopAccepting() {
	a.do(func() {
		a.open(false)
		for _, of := range a.serving {
			for i := range a.listeners {
				for n := 0; n < maxBacklog && a.acceptFrom(i, of); n++ {
				}
			}
			a.unwatchSockets(of)
		}
		a.stopped = true
		for _, of := range a.serving {
			a.watchSockets(of)
		}
	})
}

// Cut ends every session with reason, by RST: what was under way must not look
// complete.
func (a *Acceptor) Cut(reason metrics.Reason) {
	a.do(func() {
		for slot := range a.slab.slots() {
			if s := a.slab.at(slot); s.state != stateFree {
				a.cut(slot, s, reason)
			}
		}
	})
}

// Holds says whether one of the sessions reaches its backend from this source
// address. It looks at each: for people who ask, not for every connection.
func (a *Acceptor) Holds(source netip.AddrPort) (held bool) {
	a.do(func() {
		for slot := range a.slab.slots() {
			s := a.slab.at(slot)
			// One that is dialing may be established already, and its backend be asking.
			if (s.state == stateRelaying || s.state == stateDialing) && a.sys.localAddr(int(s.fd[backend])) == source {
				held = true
				return
			}
		}
	})
	return held
}

// Close ends Run. Sessions that still run are cut as internal_error; drain first.
func (a *Acceptor) Close() {
	a.do(func() { a.running = false })
	<-a.ended
}

// post has f run in the loop, between two turns.
func (a *Acceptor) post(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.posted = append(a.posted, f)
	a.hasPosted.Store(true)
	a.wake()
}

// do posts f and waits until it has run. It returns false if the loop has ended.
func (a *Acceptor) do(f func()) bool {
	done := make(chan struct{})
	a.post(func() { f(); close(done) })
	select {
	case <-done:
		return true
	case <-a.ended:
		return false
	}
}

func (a *Acceptor) runPosted() {
	if !a.hasPosted.Load() {
		return
	}
	a.mu.Lock()
	fs := a.posted
	a.posted = nil
	a.hasPosted.Store(false)
	a.mu.Unlock()
	for _, f := range fs {
		f()
	}
}
