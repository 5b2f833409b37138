package host

import (
	"maps"
	"slices"

	"sluice/metrics"
)

// told is what one process of a worker has been told, and has answered. The difference
// to what it should know is the next order.
type told struct {
	started bool
	closed  bool
	latest  *edition // of which it was told anything last
	bound   *edition
	inForce *edition
	refused *edition // the last that it could not bind
	refusal error

	// The descriptors that it was given, as it keeps them: see holdings.trim.
	sockets map[metrics.ID]bool
	rows    map[metrics.ID]bool
	access  map[uint64]bool
	netns   map[uint64]bool
	receive bool
	send    [metrics.MaxAcceptors]uint64 // the birth of the worker that receives there; 0 = none
	lent    map[int]*loan                // by hung seat
}

// loan is what a rescuer has of a hung seat.
type loan struct {
	birth     uint64 // of the hung worker
	listeners []metrics.ID
	given     int  // of the listeners' sockets and then the mailbox, how many it has
	on        bool // and it serves them
}

func newTold() told {
	return told{sockets: map[metrics.ID]bool{}, rows: map[metrics.ID]bool{}, access: map[uint64]bool{}, netns: map[uint64]bool{}, lent: map[int]*loan{}}
}

// trim forgets the descriptors that e does not name; the worker closes them.
func (t *told) trim(e *edition) {
	named, sets, nets := map[metrics.ID]bool{}, map[uint64]bool{}, map[uint64]bool{}
	if e != nil {
		nets = networks(e.Plan)
		for i := range e.Plan.Listeners {
			l := &e.Plan.Listeners[i]
			named[l.ID], sets[l.Guard.Access] = true, true
		}
	}
	maps.DeleteFunc(t.access, func(number uint64, _ bool) bool { return !sets[number] })
	maps.DeleteFunc(t.netns, func(number uint64, _ bool) bool { return !nets[number] })
	gone := func(id metrics.ID, _ bool) bool { return !named[id] }
	maps.DeleteFunc(t.sockets, gone)
	maps.DeleteFunc(t.rows, gone)
	for seat := range t.send {
		if !e.has(seat) || e.mailbox(seat).Send < 0 {
			t.send[seat] = 0
		}
	}
}

// order is one thing to tell a worker.
type order struct {
	m      message
	before []byte             // a frame that goes ahead of it; nil = none
	fds    []int              // that go with it; those of m.Gifts
	done   func(answer error) // called with the supervisor's mutex when it was answered
	asks   *question          // of kindFind
	fatal  error              // nothing is sent: the worker must end
}

// nextLocked is what w must be told next; nil = it knows all. In this order: to end,
// what is in force, which seats to rescue, what people ask, what may be in force
// next.
func (s *supervisor) nextLocked(w *worker) *order {
	t := &w.told
	switch {
	case t.closed:
		return nil
	case w.leaving:
		return &order{m: message{Kind: kindClose}, done: func(error) { t.closed = true }}
	case !t.started:
		return s.startLocked(w)
	case s.inForce.has(w.seat) && t.refused == s.inForce:
		return &order{fatal: refusal(w, t.refusal)}
	case s.inForce.has(w.seat) && t.inForce != s.inForce:
		if o := s.towardsLocked(w, s.inForce); o != nil {
			return o
		}
		return &order{m: message{Kind: kindCommit}, done: func(error) {
			t.inForce = t.bound
			t.trim(t.inForce)
		}}
	case t.latest != t.inForce && t.latest != s.prepared: // it was rolled back
		return &order{m: message{Kind: kindUnbind}, done: func(error) {
			t.bound, t.latest = t.inForce, t.inForce
			t.trim(t.inForce)
		}}
	}
	if o := s.rescueLocked(w); o != nil {
		return o
	}
	if t.inForce != nil && len(w.questions) > 0 {
		q := w.questions[0]
		return &order{m: message{Kind: kindFind, Source: q.source}, asks: q, done: func(error) {}}
	}
	if t.inForce != nil && len(w.surveys) > 0 {
		m := w.surveys[0]
		w.surveys = w.surveys[1:]
		return &order{m: *m, done: func(error) {}}
	}
	if s.prepared.has(w.seat) && t.refused != s.prepared {
		return s.towardsLocked(w, s.prepared)
	}
	return nil
}

func (s *supervisor) startLocked(w *worker) *order {
	e := s.inForce
	if !e.has(w.seat) {
		e = s.prepared
	}
	if !e.has(w.seat) { // rolled back before it began: it is about to be killed
		return nil
	}
	return &order{
		m:    message{Kind: kindStart, Start: &workerStart{Seat: w.seat, Settings: e.Settings[w.seat]}},
		done: func(error) { w.told.started = true },
	}
}

// towardsLocked is the next step to having bound e; nil = it has.
func (s *supervisor) towardsLocked(w *worker, e *edition) *order {
	t := &w.told
	if t.bound == e {
		return nil
	}
	t.latest = e
	judge := func(err error) bool {
		if err != nil {
			t.refused, t.refusal = e, err
			s.judgeLocked(w, e, err)
		}
		return err == nil
	}
	if gifts, fds := s.lackingLocked(w, e); len(gifts) > 0 {
		return &order{m: message{Kind: kindGive, Gifts: gifts}, fds: fds, done: func(err error) {
			if judge(err) {
				t.keep(gifts, func(seat int) uint64 { return s.birthLocked(seat) })
			}
		}}
	}
	return &order{m: message{Kind: kindBind}, before: s.frames[e], done: func(err error) {
		if judge(err) {
			t.bound = e
			s.judgeLocked(w, e, nil)
		}
	}}
}

func (s *supervisor) birthLocked(seat int) uint64 {
	if w := s.all[seat]; w != nil {
		return w.birth
	}
	return 0
}

// lackingLocked lists descriptors that w needs for e and has not been given, at most
// as many as go with one frame.
func (s *supervisor) lackingLocked(w *worker, e *edition) (gifts []gift, fds []int) {
	t := &w.told
	want := func(g gift, fd int, has bool) {
		if fd >= 0 && !has && len(gifts) < maxRights {
			gifts, fds = append(gifts, g), append(fds, fd)
		}
	}
	asked := map[uint64]bool{}
	for i := range e.Plan.Listeners {
		id := e.Plan.Listeners[i].ID
		want(gift{Kind: giftSocket, Listener: id}, e.socket(id, w.seat), t.sockets[id])
		want(gift{Kind: giftRows, Listener: id}, e.Groups[id].Rows.FD(), t.rows[id])
		if n := e.Plan.Listeners[i].Guard.Access; n != 0 && !asked[n] {
			asked[n] = true // several listeners may have it
			want(gift{Kind: giftAccess, Access: n}, e.Access[n].File, t.access[n])
		}
	}
	for n := range networks(e.Plan) {
		want(gift{Kind: giftNetns, Netns: n}, int(e.Netns[n].Fd()), t.netns[n])
	}
	want(gift{Kind: giftReceive}, e.mailbox(w.seat).Receive, t.receive)
	for seat := range metrics.MaxAcceptors {
		if birth := s.birthLocked(seat); e.has(seat) && birth != 0 {
			want(gift{Kind: giftSend, Seat: seat}, e.mailbox(seat).Send, t.send[seat] == birth)
		}
	}
	return gifts, fds
}

// keep notes what the worker has taken.
func (t *told) keep(gifts []gift, birth func(seat int) uint64) {
	for _, g := range gifts {
		switch g.Kind {
		case giftSocket:
			t.sockets[g.Listener] = true
		case giftRows:
			t.rows[g.Listener] = true
		case giftAccess:
			t.access[g.Access] = true
		case giftNetns:
			t.netns[g.Netns] = true
		case giftReceive:
			t.receive = true
		case giftSend:
			t.send[g.Seat] = birth(g.Seat)
		}
	}
}

// rescueLocked is the next step to serving the seats that w should; nil = it does.
// It is asked while the worker has what is in force.
func (s *supervisor) rescueLocked(w *worker) *order {
	t := &w.told
	if t.inForce == nil {
		return nil
	}
	for hung, l := range t.lent {
		if !s.rescues[w.seat][hung] || l.birth != s.birthLocked(hung) || !slices.Equal(l.listeners, s.inForce.lends(hung)) {
			return &order{m: message{Kind: kindRescue, Seat: hung}, done: func(error) { delete(t.lent, hung) }}
		}
	}
	for hung := range s.rescues[w.seat] {
		listeners := s.inForce.lends(hung)
		if len(listeners) == 0 {
			continue
		}
		l := t.lent[hung]
		if l == nil {
			l = &loan{birth: s.birthLocked(hung), listeners: listeners}
			t.lent[hung] = l
		}
		if o := s.lendLocked(hung, l); o != nil {
			return o
		}
	}
	return nil
}

func (s *supervisor) lendLocked(hung int, l *loan) *order {
	if l.on {
		return nil
	}
	var gifts []gift
	var fds []int
	for _, id := range l.listeners {
		gifts, fds = append(gifts, gift{Kind: giftRescue, Seat: hung, Listener: id}), append(fds, s.inForce.socket(id, hung))
	}
	if fd := s.inForce.mailbox(hung).Receive; fd >= 0 {
		gifts, fds = append(gifts, gift{Kind: giftRescueMail, Seat: hung}), append(fds, fd)
	}
	if l.given < len(gifts) {
		end := min(l.given+maxRights, len(gifts))
		return &order{m: message{Kind: kindGive, Gifts: gifts[l.given:end]}, fds: fds[l.given:end], done: func(err error) {
			if l.given = end; err != nil { // it has no room for them: it serves what it has
				l.given = len(gifts)
			}
		}}
	}
	return &order{m: message{Kind: kindRescue, Seat: hung, On: true}, done: func(error) { l.on = true }}
}
