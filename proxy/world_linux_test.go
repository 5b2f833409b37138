package proxy

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// world is the outside of one acceptor, played: descriptors with scripted contents,
// events that the test chooses, and faults at any step. The test turns the loop by
// hand, so each turn can be looked at.
type world struct {
	t         *testing.T
	a         *Acceptor
	plan      *Plan
	fds       map[int]*fakeFD
	calls     map[string]int
	faults    map[string][]syscall.Errno // what the next calls of a step give; 0 = as usual
	queue     int                        // connections that wait in the accept queue
	watched   map[int]syscall.EpollEvent
	events    []syscall.EpollEvent // of the next turn
	notices   chan Notice
	unsent    int            // what a socket has sent and not been acknowledged
	peer      netip.AddrPort // address of the other end
	local     netip.AddrPort // and of this one
	comesFrom netip.Addr     // where a connection would come from
	network   int            // the descriptor of the network namespace that the thread is in
	batch     []bool         // what scheduling was asked for
	elapsed   time.Duration  // the clock stands still but for pass
}

// fakeFD is a socket or an end of a pipe.
type fakeFD struct {
	in     []byte // what reads give, then eof or err, else EAGAIN
	eof    bool
	err    syscall.Errno
	room   int // what writes still take; then EAGAIN
	out    []byte
	shut   bool
	closed string  // "" while open, else "close" or "reset"
	reader *fakeFD // of a pipe's writing end: the other end
}

const fakeListener = 1000 // far from any real descriptor, since nothing real is opened

// newWorld makes an acceptor in a played world. It has one listener and two backends.
func newWorld(t *testing.T, change ...func(*Plan)) *world {
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("192.0.2.1:80")
	w := &world{
		t: t, fds: map[int]*fakeFD{}, calls: map[string]int{}, faults: map[string][]syscall.Errno{}, watched: map[int]syscall.EpollEvent{},
		notices: make(chan Notice, 100), local: netip.MustParseAddrPort("192.0.2.9:49152"), comesFrom: netip.MustParseAddr("192.0.2.9"),
		plan: &Plan{Listeners: []Listener{{ID: webID, Name: "web", Phase: PhaseServing, Pool: appID}}, Pools: []pool.Pool{{
			ID: appID, Name: "app", ConnectTimeout: time.Second, Retries: 1,
			Targets: []pool.Target{targetAt(0, at), targetAt(1, at)},
		}}},
	}
	for _, c := range change {
		c(w.plan)
	}
	w.a, err = New(Options{
		Board: board, Notices: w.notices, Restore: func(int) error { return nil }, Settings: Settings{MaxPipes: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	real := w.a.sys
	t.Cleanup(func() {
		real.Close(w.a.epoll)
		real.Close(w.a.wakeFD)
		if err := board.Close(); err != nil {
			t.Error(err)
		}
	})
	w.play()
	w.apply(w.plan)
	return w
}

// apply puts a Plan in force.
func (w *world) apply(plan *Plan) {
	w.t.Helper()
	plan.Generation, plan.Seats = w.plan.Generation+1, []Seat{{Phase: PhaseServing}}
	for _, p := range plan.Pools {
		for _, t := range p.Targets {
			w.a.Board.Weights()[t.ID.Index()].Store(int64(t.Weight) * pool.WeightScale)
		}
	}
	b, err := w.a.Bind(plan, View{Own: Sockets{Listeners: map[metrics.ID]int{webID: fakeListener}, Mail: -1}, Netns: fakeNetworks})
	if err != nil {
		w.t.Fatal(err)
	}
	w.a.commit(b)
	w.plan = plan
}

// fault counts a call of step and says what it fails with.
func (w *world) fault(step string) (e syscall.Errno) {
	w.calls[step]++
	if q := w.faults[step]; len(q) > 0 {
		e, w.faults[step] = q[0], q[1:]
	}
	return e
}

func (w *world) open() int {
	fd := fakeListener + 1 + len(w.fds)
	w.fds[fd] = &fakeFD{room: 1 << 30}
	return fd
}

// at is an open descriptor; the use of another one is a fault of the acceptor.
func (w *world) at(fd int) *fakeFD {
	f := w.fds[fd]
	if f == nil || f.closed != "" {
		w.t.Helper()
		w.t.Fatalf("descriptor %d is used and not open", fd)
	}
	return f
}

func (w *world) play() {
	end := func(fd int, how string) syscall.Errno {
		w.at(fd).closed = how
		delete(w.watched, fd)
		return 0
	}
	w.a.sys = sys.Calls{
		Accept: func(int) (int, syscall.Errno) {
			if e := w.fault("accept"); e != 0 {
				return -1, e
			}
			if w.queue == 0 {
				return -1, syscall.EAGAIN
			}
			w.queue--
			return w.open(), 0
		},
		Age: func(fd int) time.Duration { w.at(fd); return 0 },
		Enter: func(network int) syscall.Errno {
			if e := w.fault("enter"); e != 0 {
				return e
			}
			w.network = network
			return 0
		},
		Socket: func(_ int, multipath bool) (int, syscall.Errno) {
			if multipath {
				if e := w.fault("multipath"); e != 0 {
					return -1, e
				}
			}
			if e := w.fault("socket"); e != 0 {
				return -1, e
			}
			return w.open(), 0
		},
		Bind:     func(fd int, _ netip.Addr) syscall.Errno { w.at(fd); return w.fault("bind") },
		BindPort: func(fd int, _ netip.AddrPort) syscall.Errno { w.at(fd); return w.fault("bind") },
		BindAs:   func(fd int, _ netip.Addr) syscall.Errno { w.at(fd); return w.fault("bind") },
		Connect: func(fd int, _ netip.AddrPort) syscall.Errno {
			w.at(fd)
			if e := w.fault("connect"); e != 0 {
				return e
			}
			return syscall.EINPROGRESS
		},
		SourceTo: func(netip.AddrPort) netip.Addr {
			w.calls["sourceTo"]++
			return w.comesFrom
		},
		HoldAck:   func(fd int) { w.at(fd) },
		SockError: func(fd int) syscall.Errno { w.at(fd); return w.fault("sockError") },
		LocalAddr: func(fd int) netip.AddrPort { w.at(fd); return w.local },
		PeerAddr:  func(fd int) netip.AddrPort { w.at(fd); w.fault("peerAddr"); return w.peer },
		Read: func(fd int, p []byte) (int, syscall.Errno) {
			f := w.at(fd)
			if e := w.fault("read"); e != 0 {
				return 0, e
			}
			return f.read(p)
		},
		Peek: func(fd int, p []byte) (int, syscall.Errno) {
			f := w.at(fd)
			if e := w.fault("peek"); e != 0 {
				return 0, e
			}
			peeked := *f
			return peeked.read(p)
		},
		Write: func(fd int, p []byte) (int, syscall.Errno) {
			f := w.at(fd)
			if e := w.fault("write"); e != 0 {
				return 0, e
			}
			return f.write(p)
		},
		Splice: func(from, to, n int) (int, syscall.Errno) {
			in, out, step := w.at(from), w.at(to), "splice out"
			if out.reader != nil {
				out, step = out.reader, "splice in"
			}
			if e := w.fault(step); e != 0 {
				return 0, e
			}
			if step == "splice out" {
				m, e := out.write(in.in[:n])
				in.in = in.in[m:]
				return m, e
			}
			p := make([]byte, n)
			n, e := in.read(p)
			out.in = p[:n]
			return n, e
		},
		ReadPipe: func(fd int, p []byte) (int, syscall.Errno) {
			f := w.at(fd)
			if e := w.fault("read pipe"); e != 0 {
				return 0, e
			}
			return f.read(p[:min(len(p), 4000)])
		},
		Shutdown:  func(fd int) syscall.Errno { w.at(fd).shut = true; return w.fault("shutdown") },
		Unsent:    func(fd int) (int, syscall.Errno) { w.at(fd); return w.unsent, w.fault("unsent") },
		Unread:    func(fd int) (int, syscall.Errno) { return len(w.at(fd).in), w.fault("unread") },
		SetBuffer: func(fd, _ int) { w.at(fd) },
		Prepare:   func(fd, _ int, _ *sys.Early) syscall.Errno { w.at(fd); return w.fault("prepare") },
		Tune:      func(fd int, _ sys.Tuning) { w.at(fd); w.calls["tune"]++ },
		LowUnsent: func(fd int) { w.at(fd) },
		Close:     func(fd int) syscall.Errno { return end(fd, "close") },
		Reset:     func(fd int) syscall.Errno { return end(fd, "reset") },
		Pipe: func(size int) (int, int, int, syscall.Errno) {
			if e := w.fault("pipe"); e != 0 {
				return -1, -1, 0, e
			}
			r, to := w.open(), w.open()
			w.at(to).reader = w.at(r)
			return r, to, size, 0
		},
		Watch: func(_, fd int, ev syscall.EpollEvent) syscall.Errno {
			if e := w.fault("watch"); e != 0 {
				return e
			}
			w.watched[fd] = ev
			return 0
		},
		Unwatch: func(_, fd int) syscall.Errno { delete(w.watched, fd); return 0 },
		Schedule: func(batch bool) syscall.Errno {
			w.batch = append(w.batch, batch)
			return w.fault("schedule")
		},
		Poll: func(_ int, evs []syscall.EpollEvent, _ int) (int, syscall.Errno) { return w.told(evs), w.fault("poll") },
		Wait: func(_ int, evs []syscall.EpollEvent, _ int) (int, syscall.Errno) { return w.told(evs), w.fault("wait") },
	}
}

// told moves the events of this turn to evs. The listener's is level-triggered.
func (w *world) told(evs []syscall.EpollEvent) int {
	if l, ok := w.watched[fakeListener]; ok && (w.queue > 0 || len(w.faults["accept"]) > 0) {
		w.events = append(w.events, l)
	}
	n := copy(evs, w.events)
	w.events = nil
	return n
}

func (f *fakeFD) read(p []byte) (int, syscall.Errno) {
	n := copy(p, f.in)
	f.in = f.in[n:]
	switch {
	case n > 0 || f.eof && f.err == 0:
		return n, 0
	case f.err != 0:
		return 0, f.err
	}
	return 0, syscall.EAGAIN
}

func (f *fakeFD) write(p []byte) (int, syscall.Errno) {
	switch n := min(len(p), f.room); {
	case f.err != 0:
		return 0, syscall.EPIPE
	case n == 0:
		return 0, syscall.EAGAIN
	default:
		f.out = append(f.out, p[:n]...)
		f.room -= n
		return n, 0
	}
}

// turn lets the loop see events on descriptors and runs it until nothing is queued.
func (w *world) turn(events ...syscall.EpollEvent) {
	w.events = events
	for w.once(); w.a.runs.n+w.a.streams.n > 0; w.once() {
	}
}

func (w *world) once() {
	w.a.start = time.Now().Add(-w.elapsed)
	w.a.turn()
}

// on is the event that epoll would give for a session's side.
func (w *world) on(fd int32, events uint32) syscall.EpollEvent {
	ev, ok := w.watched[int(fd)]
	if !ok {
		w.t.Fatalf("descriptor %d is not watched", fd)
	}
	ev.Events = events
	return ev
}

// pass lets time go by, turn after turn of ten milliseconds.
func (w *world) pass(d time.Duration) {
	for end := w.elapsed + d; w.elapsed < end; {
		w.elapsed += 10 * time.Millisecond
		w.turn()
	}
}

// always is a fault that does not go away.
func always(e syscall.Errno) (all []syscall.Errno) {
	for range 10_000 {
		all = append(all, e)
	}
	return all
}

// accept brings a session into being; it is then dialing, or whatever faults make
// of it.
func (w *world) accept() (int32, *session) {
	w.queue++
	for range 3 { // a fault may cost a turn: epoll names the queue again
		w.turn()
	}
	if w.queue > 0 {
		w.t.Fatal("nothing was accepted")
	}
	return 0, w.a.slab.at(0)
}

// relaying brings a session to relaying, both its sides ready to be written.
func (w *world) relaying() (*session, [2]*fakeFD) {
	_, s := w.accept()
	w.turn(w.on(s.fd[client], epollOut), w.on(s.fd[backend], epollOut))
	if s.state != stateRelaying {
		w.t.Fatalf("state %d, want relaying", s.state)
	}
	return s, [2]*fakeFD{w.at(int(s.fd[client])), w.at(int(s.fd[backend]))}
}

// ended is the reason of the one session that has ended, or "" if none has.
func (w *world) ended() (reason string) {
	for i := range metrics.NumReasons {
		switch n := w.a.web().Closed[i].Load(); {
		case n > 1 || n == 1 && reason != "":
			w.t.Errorf("more than one session ended: %d as %v, and %q", n, metrics.Reason(i), reason)
		case n == 1:
			reason = metrics.Reason(i).String()
		}
	}
	return reason
}

// settled ends what still runs and checks that nothing is left of it.
func (w *world) settled() {
	w.t.Helper()
	for slot := range w.a.slab.slots() {
		if s := w.a.slab.at(slot); s.state != stateFree {
			w.a.end(slot, s, cutFor(metrics.ReasonInternal))
		}
	}
	w.turn()
	w.a.pipes.release()
	w.a.endProbes()
	for fd, f := range w.fds {
		if f.closed == "" {
			w.t.Errorf("descriptor %d is left open", fd)
		}
	}
	a, l := w.a.cells, w.a.web()
	var held int64
	for i := range w.a.Board.Held()[:16] {
		held += w.a.Board.Held()[i].Load() + w.a.Board.Target(0, metrics.NewID(uint32(i), 1)).Active.Load()
	}
	got := fmt.Sprint(a.Sessions.Load(), a.PipesOpen.Load(), a.PipesInUse.Load(), a.SpillBytes.Load(), l.Active.Load(), l.HalfClosed.Load(), l.Waiting.Load(),
		held, w.a.slab.used, w.a.wheel.armed, w.a.runs.n+w.a.streams.n)
	if got != "0 0 0 0 0 0 0 0 0 0 0" {
		w.t.Errorf("left: sessions, pipes open, in use, spilled, active, half-closed, waiting, on backends, slots, timers, queued: %s", got)
	}
}
