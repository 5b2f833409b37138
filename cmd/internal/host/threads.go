package host

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"sluice/listener"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
)

// threads is the host of mode "goroutine": every acceptor a thread of this process.
// The caller of Prepare does the binding, so no loop is waited for.
type threads struct {
	Options
	*reaper
	started time.Time

	mu       sync.Mutex // guards what follows; held for no call that could wait
	all      map[int]*thread
	ending   map[*thread]bool // that leave, also those that are not in all any more
	prepared *edition
	bound    map[int]*proxy.Bound // of prepared
	inForce  *edition
	rescues  rescues
	rows     map[metrics.ID][]proxy.Row
	closed   bool
}

// thread is one acceptor. It runs from its first Commit on.
type thread struct {
	*proxy.Acceptor
	running bool
	leaving bool
	lent    map[int]*proxy.Sockets // what it serves for hung siblings
}

func newThreads(o Options, r *reaper) *threads {
	return &threads{Options: o, reaper: r, started: time.Now(), all: map[int]*thread{}, ending: map[*thread]bool{}, rescues: rescues{}, rows: map[metrics.ID][]proxy.Row{}}
}

func (t *threads) Prepare(o Orders) error {
	err := t.prepare(o)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.prepared, t.bound = nil, nil
		t.dismissLocked()
	}
	return err
}

// prepare makes the acceptors that o wants and has all of them bind it.
func (t *threads) prepare(o Orders) error {
	t.mu.Lock()
	inForce := t.inForce
	t.mu.Unlock()
	e, err := newEdition(o, inForce)
	if err != nil {
		return err
	}
	bound := map[int]*proxy.Bound{}
	for _, s := range e.Plan.Seats {
		if bound[s.Number], err = t.bind(e, s.Number); err != nil {
			return fmt.Errorf("acceptor %d: %w", s.Number, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
	}
	t.prepared, t.bound = e, bound
	t.dismissLocked()
	return nil
}

func (t *threads) bind(e *edition, seat int) (*proxy.Bound, error) {
	a, err := t.acceptor(e, seat)
	if err != nil {
		return nil, err
	}
	v, err := t.view(e, seat)
	if err != nil {
		return nil, err
	}
	return a.Bind(e.Plan, v)
}

// acceptor returns the one of a seat, which is made when it is asked for first.
func (t *threads) acceptor(e *edition, seat int) (*thread, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.all[seat]
	switch {
	case t.closed:
		return nil, errClosed
	case ok && a.leaving:
		return nil, errEnding
	case ok:
		return a, nil
	}
	made, err := proxy.New(proxy.Options{
		Seat: seat, Board: t.Board, Journal: t.Journal.Writer(seat), Notices: t.Notices, Restore: listener.Restore, Settings: e.Settings[seat],
	})
	if err != nil {
		return nil, err
	}
	a = &thread{Acceptor: made, lent: map[int]*proxy.Sockets{}}
	t.all[seat] = a
	return a, nil
}

// view is what a seat is given of the sockets.
func (t *threads) view(e *edition, seat int) (proxy.View, error) {
	v := proxy.View{
		Own:    proxy.Sockets{Listeners: map[metrics.ID]int{}, Mail: e.mailbox(seat).Receive},
		Groups: map[metrics.ID]proxy.Group{}, Access: map[uint64]*access.Set{}, Netns: e.Netns,
	}
	for number, set := range e.Access {
		v.Access[number] = set.Set
	}
	for i := range e.Plan.Listeners {
		l := &e.Plan.Listeners[i]
		fd := e.socket(l.ID, seat)
		if fd >= 0 {
			if err := checkSocket(fd); err != nil {
				return v, fmt.Errorf("listener %q: %w", l.Name, err)
			}
		}
		g := e.Groups[l.ID]
		v.Own.Listeners[l.ID] = fd
		v.Groups[l.ID] = proxy.Group{Rows: t.rowsOf(l.ID, e), HandOff: g.HandOff}
	}
	for other := range metrics.MaxAcceptors {
		send := -1
		if e.has(other) {
			send = e.mailbox(other).Send
		}
		v.Mail = append(v.Mail, send)
	}
	return v, nil
}

// rowsOf returns a listener's rows, the same for all acceptors.
func (t *threads) rowsOf(id metrics.ID, e *edition) []proxy.Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows[id] == nil {
		t.rows[id] = rowsOf(e.Groups[id].Rows)
	}
	return t.rows[id]
}

func (t *threads) Commit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prepared == nil || t.closed {
		return
	}
	t.inForce = t.prepared
	// One P more than there are loops: a loop that polls keeps its P, and the control
	// plane wants one, too.
	if p := len(t.bound) + 1; runtime.GOMAXPROCS(0) < p {
		runtime.GOMAXPROCS(p)
	}
	for seat, b := range t.bound {
		a := t.all[seat]
		a.Commit(b) // here it goes live
		if !a.running {
			a.running = true
			go a.Run()
		}
	}
	t.prepared, t.bound = nil, nil
	t.dismissLocked()
	for id := range t.rows {
		if _, ok := t.inForce.Groups[id]; !ok {
			delete(t.rows, id)
		}
	}
	for by := range t.rescues {
		t.lendLocked(by)
	}
}

// dismissLocked ends the acceptors that no Plan names, neither in force nor prepared.
func (t *threads) dismissLocked() {
	for seat, a := range t.all {
		if !a.leaving && !t.inForce.has(seat) && !t.prepared.has(seat) {
			a.leaving = true
			t.rescues.forget(seat)
			a.Close()
			t.ending[a] = true
			served := a.running
			if !served {
				// No acceptor has heard of it: its number is free at once. Run lets go of what it has.
				delete(t.all, seat)
				a.running = true
				go a.Run()
			}
			go t.seeOff(seat, a, served)
		}
	}
}

// seeOff waits for the end of an acceptor that leaves.
func (t *threads) seeOff(seat int, a *thread, served bool) {
	<-a.Ended()
	t.mu.Lock()
	delete(t.ending, a)
	if served {
		delete(t.all, seat)
	}
	gone := served && !t.closed
	t.mu.Unlock()
	if gone {
		t.Gone(seat)
	}
}

// Close gives up on a loop that does not end: the process is about to.
func (t *threads) Close() {
	t.mu.Lock()
	t.closed = true
	for _, a := range t.all {
		a.Close()
		if !a.running {
			a.running = true
			go a.Run() // lets go of what it has
		}
	}
	all := slices.AppendSeq(slices.Collect(maps.Values(t.all)), maps.Keys(t.ending))
	t.mu.Unlock()
	late := time.After(closeWithin)
	for _, a := range all {
		select {
		case <-a.Ended():
		case <-late:
			t.Log.Warn("not every acceptor has ended")
			return
		}
	}
}

func (t *threads) Workers() []metrics.Worker {
	w := metrics.Worker{State: metrics.WorkerRunning, PID: os.Getpid(), Started: t.started}
	readProcess(&w)
	return []metrics.Worker{w}
}

func (t *threads) Placement() (placed []metrics.Acceptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, seat := range slices.Sorted(maps.Keys(t.all)) {
		if t.all[seat].running {
			placed = append(placed, metrics.Acceptor{Number: seat, Leaving: t.inForce.leaves(seat)})
		}
	}
	return placed
}
