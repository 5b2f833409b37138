package proxy

import (
	"time"

	"sluice/metrics"
)

// A session whose backends all have max_sessions waits in the pool's queue, which is one for
// all acceptors (metrics.PoolQueue): first come, first served.
//
//	dial: all are full ──► join ──► waits ──► its turn, and a place is free ──► dial
//	                         │        │ ▲         no place is free │
//	                         │        │ └──────────────────────────┘
//	                         │        ├── queue_timeout is over ──► queue_timeout
//	                         │        └── its client leaves, ... ─► as ever
//	                         └─ queue sessions wait already ──► queue_full
//
// The acceptor that gives a place back looks whose turn it is and tells that one: by mail
// without a connection in it, or itself by lines.due. Each that waits also looks by itself,
// about six times a second (park): so a letter that is lost, a worker that died and a weight
// that was raised cost a moment, and nothing is stuck. An acceptor that hangs is passed
// over; its sessions join again when it turns.
type lines struct {
	all []*line
	due bool // it may be one's turn
}

// line is an acceptor's part of a pool's queue: its sessions in the order of their tickets.
type line struct {
	pool    metrics.ID
	queue   *metrics.PoolQueue
	waiting []waiting // those before first are over
	first   int
}

// waiting is a session in a line; it may have gone.
type waiting struct {
	slot   int32
	gen    uint32
	ticket uint64
}

// queued is what an opening record knows of a queue.
type queued struct {
	line   *line // nil = it is in none
	ticket uint64
	since  int64  // clock
	until  uint32 // tick at which queue_timeout is over
}

// callMail is the label of a letter that says "look at your lines", and callMail less the
// number of a source one that says "look at those barred for it". No listener has such an ID.
const callMail = ^uint64(0)

// mustQueue says whether a session has to let others go first. One that goes on to its next
// target has had its turn.
func (a *Acceptor) mustQueue(s *session, p *pooled) bool {
	if !p.prepared.Limited || p.Queue == 0 {
		return false
	}
	o := a.openings.of(s)
	q := a.Board.PoolQueue(p.ID)
	if o.tries > 0 || q.Empty() {
		return false
	}
	ticket, _, ok := q.First(a.hangs)
	return ok && !(o.place.line != nil && o.place.ticket == ticket)
}

// queueUp is the outcome for a session that finds no place, or others before it.
func (a *Acceptor) queueUp(slot int32, s *session, p *pooled) outcome {
	o := a.openings.of(s)
	if o.place.line == nil {
		if !a.join(slot, s, p) {
			p.cells.QueueEnds[metrics.QueueFull].Add(1)
			return over(cutFor(metrics.ReasonQueueFull))
		}
		o.place.since, o.place.until = a.now, a.tick+ticks(p.QueueTimeout)
		a.lines.due = true // a place may have come free before it had joined
	}
	a.park(s)
	o.until = min(o.until, o.place.until)
	return outcome{state: stateWaiting}
}

// join gives a session a ticket, unless as many wait as may over all acceptors. Like
// awaitBackend it adds first and looks at the sum after.
func (a *Acceptor) join(slot int32, s *session, p *pooled) bool {
	if p.Queue == 0 {
		return false
	}
	p.cells.Queued.Add(1)
	var sum int64
	for _, b := range a.bound.siblings {
		sum += a.Board.Pool(b.seat, p.ID).Queued.Load()
	}
	if sum <= int64(p.Queue) {
		l := a.lines.of(a.Board, p.ID)
		if ticket, ok := l.queue.Join(a.Seat); ok {
			l.add(waiting{slot, s.gen, ticket})
			o := a.openings.of(s)
			o.place.line, o.place.ticket = l, ticket
			return true
		}
	}
	p.cells.Queued.Add(-1)
	return false
}

// leaveQueue ends a session's wait, if it does.
func (a *Acceptor) leaveQueue(s *session, end metrics.QueueEnd) {
	o := a.openings.of(s)
	l := o.place.line
	if l == nil {
		return
	}
	o.place.line = nil
	c := a.Board.Pool(a.Seat, l.pool)
	c.Queued.Add(-1)
	c.QueueEnds[end].Add(1)
	if end == metrics.QueueServed {
		c.QueueWait.Observe(time.Duration(a.now - o.place.since))
	}
	l.queue.Leave(o.place.ticket)
	a.callFirst(l.pool.Index())
}

// inQueue is the next step of a session that waits in a queue.
func (a *Acceptor) inQueue(slot int32, s *session) outcome {
	o, p := a.openings.of(s), a.poolOf(s)
	l := o.place.line
	switch {
	case l.pool != p.ID || p.Queue == 0 || !p.prepared.Limited: // a Plan has come
		a.leaveQueue(s, metrics.QueueLeft)
		return a.redial(slot, s)
	case a.tick >= o.place.until:
		a.leaveQueue(s, metrics.QueueTimeout)
		return over(cutFor(metrics.ReasonQueueTimeout))
	case !l.queue.Waits(o.place.ticket): // it was passed over while this loop hung
		ticket, ok := l.queue.Join(a.Seat)
		if !ok {
			a.leaveQueue(s, metrics.QueueFull)
			return over(cutFor(metrics.ReasonQueueFull))
		}
		o.place.ticket = ticket
		l.add(waiting{slot, s.gen, ticket})
	}
	return a.redial(slot, s) // which queues up again if it is not its turn
}

// serveLines lets those dial whose turn it is, until one finds no place.
func (a *Acceptor) serveLines() {
	if !a.lines.due {
		return
	}
	a.lines.due = false
	for _, l := range a.lines.all {
		for a.serveFirst(l) {
		}
	}
}

// serveFirst says whether the first of a line was this acceptor's and is so no more.
func (a *Acceptor) serveFirst(l *line) bool {
	ticket, seat, ok := l.queue.First(a.hangs)
	if !ok || seat != a.Seat {
		return false
	}
	for l.first < len(l.waiting) && l.waiting[l.first].ticket < ticket {
		l.first++
	}
	if l.first < len(l.waiting) && l.waiting[l.first].ticket == ticket {
		w := l.waiting[l.first]
		if s := a.slab.at(w.slot); s.gen == w.gen && s.state == stateWaiting && a.openings.of(s).place.line == l {
			a.carryOn(w.slot, s, a.inQueue(w.slot, s))
			return !l.queue.Waits(ticket)
		}
	}
	l.queue.Leave(ticket) // no session has it: of an acceptor that had the seat before
	return true
}

// callFirst tells the acceptor whose session is the first in a pool's queue.
func (a *Acceptor) callFirst(index uint32) {
	q := a.Board.PoolQueue(metrics.NewID(index, 0))
	if q.Empty() {
		return
	}
	_, seat, ok := q.First(a.hangs)
	switch {
	case !ok:
	case seat == a.Seat:
		a.lines.due = true
	case seat < len(a.bound.mail) && a.bound.mail[seat] >= 0:
		a.sys.SendFD(a.bound.mail[seat], callMail, -1) // a full mailbox has woken it
	}
}

// hangs says whether a seat's sessions are passed over.
func (a *Acceptor) hangs(seat int) bool {
	return seat != a.Seat && a.Board.Acceptor(seat).Hung.Load() != 0
}

// of is the line of a pool. It is made when it is asked for first, and there are as many as
// pools that ever had a queue.
func (l *lines) of(b *metrics.Board, id metrics.ID) *line {
	for i, have := range l.all {
		if have.pool == id {
			return have
		}
		if have.pool.Index() == id.Index() { // of a pool that is no more: none waits there
			l.all[i] = &line{pool: id, queue: have.queue}
			return l.all[i]
		}
	}
	made := &line{pool: id, queue: b.PoolQueue(id)}
	l.all = append(l.all, made)
	return made
}

// add appends, and forgets what is over once that is half of all.
func (l *line) add(w waiting) {
	if l.first > 64 && l.first > len(l.waiting)/2 {
		l.waiting, l.first = l.waiting[:copy(l.waiting, l.waiting[l.first:])], 0
	}
	l.waiting = append(l.waiting, w)
}
