package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
	"sluice/proxy/access"
)

// holdings are a worker's acceptor and the descriptors it has for it. They belong to
// the goroutine that obeys the supervisor. A descriptor is kept until the Plan in
// force does not name what it is for, and is closed once the loop runs that Plan.
type holdings struct {
	seat     int
	cells    *metrics.AcceptorCells
	board    *metrics.Board
	acceptor *proxy.Acceptor
	running  bool

	listeners map[metrics.ID]*holding
	access    map[uint64]*access.Set
	netns     map[uint64]*os.File // closed when nobody has them any more
	receive   int                 // its mailbox; -1 = none
	send      [metrics.MaxAcceptors]int
	staged    map[int]*proxy.Sockets // of hung siblings, before the rescue begins
	lent      map[int]*proxy.Sockets // and during it
	replaced  []int                  // in use until the next Plan is in force

	told    *body // the last that came, not checked yet
	binding *body // of which bound is
	bound   *proxy.Bound
	inForce *body
}

// holding is what a worker has of one listener.
type holding struct {
	socket int // its own; -1 = none, or closed already
	rows   *steering.Rows
	seats  []proxy.Row
}

func newHoldings(b *metrics.Board, j *journal.Writer, start *workerStart, notices chan proxy.Notice) (*holdings, error) {
	h := &holdings{
		seat: start.Seat, board: b, cells: b.Acceptor(start.Seat), receive: -1,
		listeners: map[metrics.ID]*holding{}, access: map[uint64]*access.Set{}, netns: map[uint64]*os.File{}, staged: map[int]*proxy.Sockets{}, lent: map[int]*proxy.Sockets{},
	}
	for i := range h.send {
		h.send[i] = -1
	}
	h.cells.Generation.Store(0) // a predecessor's would say that this loop runs a Plan already
	var err error
	h.acceptor, err = proxy.New(proxy.Options{
		Seat: start.Seat, Board: b, Journal: j, Notices: notices, Restore: listener.Restore, Settings: start.Settings,
	})
	return h, err
}

// take files descriptors away. After an error it has those that were good.
func (h *holdings) take(gifts []gift, fds []int) error {
	if len(fds) != len(gifts) {
		closeAll(fds)
		return fmt.Errorf("%d of %d descriptors came: the limit of open files may be too low", len(fds), len(gifts))
	}
	var errs []error
	for i, g := range gifts {
		if err := h.takeOne(g, fds[i]); err != nil {
			unix.Close(fds[i])
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// takeOne owns fd unless it fails.
func (h *holdings) takeOne(g gift, fd int) error {
	switch g.Kind {
	case giftSocket:
		if err := checkSocket(fd); err != nil {
			return err
		}
		h.place(&h.of(g.Listener).socket, fd)
	case giftRows:
		rows, err := steering.OpenRows(fd)
		if err != nil {
			return err
		}
		l := h.of(g.Listener)
		if l.rows != nil { // given twice: these do not replace what the loop may use
			return rows.Close()
		}
		l.rows, l.seats = rows, rowsOf(rows)
	case giftAccess:
		set, err := access.Open(fd)
		if err != nil {
			return fmt.Errorf("access set: %w", err)
		}
		h.access[g.Access] = set
		unix.Close(fd)
	case giftNetns:
		h.netns[g.Netns] = os.NewFile(uintptr(fd), "netns")
	case giftReceive:
		h.place(&h.receive, fd)
	case giftSend:
		h.place(&h.send[g.Seat], fd)
	case giftRescue:
		if err := checkSocket(fd); err != nil {
			return err
		}
		s := h.stage(g.Seat)
		if _, twice := s.Listeners[g.Listener]; twice {
			return fmt.Errorf("seat %d's socket of %#x came twice", g.Seat, uint64(g.Listener))
		}
		s.Listeners[g.Listener] = fd
	case giftRescueMail:
		h.place(&h.stage(g.Seat).Mail, fd)
	default:
		return fmt.Errorf("unknown gift %q", g.Kind)
	}
	return nil
}

func (h *holdings) of(id metrics.ID) *holding {
	l := h.listeners[id]
	if l == nil {
		l = &holding{socket: -1}
		h.listeners[id] = l
	}
	return l
}

func (h *holdings) stage(seat int) *proxy.Sockets {
	s := h.staged[seat]
	if s == nil {
		s = &proxy.Sockets{Listeners: map[metrics.ID]int{}, Mail: -1}
		h.staged[seat] = s
	}
	return s
}

// place puts fd where another one may be that the loop uses.
func (h *holdings) place(at *int, fd int) {
	if *at >= 0 {
		h.replaced = append(h.replaced, *at)
	}
	*at = fd
}

// bind checks b and makes all ready that it asks for.
func (h *holdings) bind(b *body) error {
	if b == nil {
		return errors.New("bind without a plan")
	}
	v, err := h.view(b)
	if err != nil {
		return err
	}
	bound, err := h.acceptor.Bind(b.Plan, v)
	if err != nil {
		return err
	}
	h.bound, h.binding = bound, b
	return nil
}

// view is what the acceptor is given of the sockets.
func (h *holdings) view(b *body) (proxy.View, error) {
	v := proxy.View{
		Own:    proxy.Sockets{Listeners: map[metrics.ID]int{}, Mail: h.receive},
		Groups: map[metrics.ID]proxy.Group{}, Access: h.access, Netns: h.netns,
	}
	if err := b.Plan.Check(); err != nil {
		return v, err
	}
	phase, ok := b.phase(h.seat)
	if !ok {
		return v, fmt.Errorf("a plan without seat %d", h.seat)
	}
	handOff := setOf(b.HandOff)
	for i := range b.Plan.Listeners {
		l := &b.Plan.Listeners[i]
		has := h.listeners[l.ID]
		if has == nil || has.rows == nil || has.socket < 0 && max(l.Phase, phase) == proxy.PhaseServing {
			return v, fmt.Errorf("listener %q: a descriptor is missing", l.Name)
		}
		v.Own.Listeners[l.ID] = has.socket
		v.Groups[l.ID] = proxy.Group{Rows: has.seats, HandOff: handOff[l.ID]}
	}
	for seat, fd := range h.send {
		if !slices.Contains(b.Mail, seat) {
			fd = -1
		}
		v.Mail = append(v.Mail, fd)
	}
	return v, nil
}

func setOf(all []metrics.ID) map[metrics.ID]bool {
	set := map[metrics.ID]bool{}
	for _, id := range all {
		set[id] = true
	}
	return set
}

// phase is the one of a seat; false = the Plan does not name it.
func (b *body) phase(seat int) (proxy.Phase, bool) {
	for _, s := range b.Plan.Seats {
		if s.Number == seat {
			return s.Phase, true
		}
	}
	return 0, false
}

// commit puts in force what was bound. It waits for nothing.
func (h *holdings) commit() error {
	if h.bound == nil {
		return errors.New("commit without a bind")
	}
	h.acceptor.Commit(h.bound) // here it goes live
	h.inForce, h.bound, h.binding = h.binding, nil, nil
	if !h.running {
		h.running = true
		go h.acceptor.Run()
	}
	gone := h.trim(h.inForce)
	gone.fds, h.replaced = append(gone.fds, h.replaced...), nil
	if generation := h.inForce.Plan.Generation; !gone.isEmpty() {
		go closeWhen(func() bool { return h.runs(generation) }, gone)
	}
	return nil
}

// runs says whether the loop has come as far as a Plan.
func (h *holdings) runs(generation uint64) bool {
	return uint64(h.cells.Generation.Load()) >= generation
}

// unbind forgets what came after the last commit. The loop has seen none of it.
func (h *holdings) unbind() {
	h.bound, h.binding = nil, nil
	h.trim(h.inForce).close()
}

// close ends the acceptor. One that does not end is ended by the end of its process.
func (h *holdings) close() {
	h.acceptor.Close()
	if !h.running {
		return
	}
	select {
	case <-h.acceptor.Ended():
	case <-time.After(closeWithin / 2):
	}
}
