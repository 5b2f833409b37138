package proxy

import (
	"sluice/metrics"
	"sluice/metrics/journal"
)

// What an acceptor writes into the journal (2.17 of the design), and what it must
// remember of a session for that until its end:
//
//	admit ─► note lent ─► connect, established, delivered: noted ─► end: one record ─► note given back
//
// While no records are wanted no session has a note, and each of these steps is
// one test. A session that began then and ends later has none, and its record says
// so.

// journaling is the acceptor's end of the journal.
type journaling struct {
	want   journal.Want // of this turn
	notes  notes
	record journal.Record // being filled in: a local one would be allocated
}

// note is what the journal wants to know of a session at its end and the session does
// not carry. Like that it holds no pointer.
type note struct {
	target    metrics.ID   // that it was given last
	route     metrics.ID   // that it took; valid with journal.Routed
	dialed    int64        // clock at its last connect; 0 = none
	connected int64        // clock when that ended well; 0 = it did not
	bytes     [2]uint64    // delivered, by direction
	slot      int32        // whose it is
	next      int32        // free list
	client    journal.Peer // at the end it may be gone: a reset socket has no peer
	flags     journal.Flags
	tries     uint8 // connects begun
}

// notes are lent like openings, but never move: there may be as many as sessions.
type notes struct {
	chunks [][]note
	free   int32 // index plus one of the head; 0 = none
}

// chunkNotes are made at a time: 512 x 80 B = 40 KiB.
const chunkNotes = 512

func (n *notes) at(ref int32) *note { return &n.chunks[(ref-1)/chunkNotes][(ref-1)%chunkNotes] }

// lend returns a cleared note as its index plus one.
func (n *notes) lend() int32 {
	if n.free == 0 {
		first := int32(len(n.chunks) * chunkNotes)
		n.chunks = append(n.chunks, make([]note, chunkNotes))
		for i := first + chunkNotes; i > first; i-- {
			n.giveBack(i)
		}
	}
	ref := n.free
	n.free = n.at(ref).next
	*n.at(ref) = note{}
	return ref
}

func (n *notes) giveBack(ref int32) {
	n.at(ref).next = n.free
	n.free = ref
}

// lookWanted is called once a turn.
func (a *Acceptor) lookWanted() {
	if a.Journal != nil {
		a.want = journal.Want(a.cells.Record.Load())
	}
}

// idOf is what people call a session.
func (a *Acceptor) idOf(slot int32, s *session) journal.ID { return journal.NewID(a.Seat, slot, s.gen) }

// noteAccepted begins to remember a session.
func (a *Acceptor) noteAccepted(slot int32, s *session) {
	if a.want == 0 {
		return
	}
	s.note = a.notes.lend()
	n := a.notes.at(s.note)
	n.slot, n.client = slot, journal.PeerOf(a.sys.PeerAddr(int(s.fd[client])))
	a.noteStep(s, journal.KindAccepted)
}

func (a *Acceptor) noteRoute(s *session, route metrics.ID) {
	if s.note != 0 {
		n := a.notes.at(s.note)
		n.route = route
		n.flags |= journal.Routed
	}
}

// noteClient notes whose connection it really is.
func (a *Acceptor) noteClient(s *session, client journal.Peer) {
	if s.note != 0 {
		a.notes.at(s.note).client = client
	}
}

func (a *Acceptor) noteDial(s *session, target metrics.ID) {
	if s.note == 0 {
		return
	}
	n := a.notes.at(s.note)
	n.target, n.dialed = target, a.now
	n.tries++
	a.noteStep(s, journal.KindDialed)
}

// noteDialFailed notes why the connect that was noted last failed.
func (a *Acceptor) noteDialFailed(s *session, class metrics.ConnectError) {
	if s.note != 0 && a.want&journal.WantSteps != 0 {
		a.describe(a.notes.at(s.note).slot, s, journal.KindDialFailed)
		a.record.Class = class
		a.Journal.Write(&a.record)
	}
}

func (a *Acceptor) noteWaits(s *session) {
	if s.note != 0 {
		a.notes.at(s.note).flags |= journal.Queued
		a.noteStep(s, journal.KindWaits)
	}
}

func (a *Acceptor) noteConnected(s *session) {
	if s.note == 0 {
		return
	}
	n := a.notes.at(s.note)
	n.connected = a.now
	if a.want&(journal.WantConnects|journal.WantSteps) != 0 {
		a.describe(n.slot, s, journal.KindConnected)
		a.Journal.Write(&a.record)
	}
}

// noteStep writes what only a trace wants.
func (a *Acceptor) noteStep(s *session, kind journal.Kind) {
	if a.want&journal.WantSteps != 0 {
		a.describe(a.notes.at(s.note).slot, s, kind)
		a.Journal.Write(&a.record)
	}
}

func (a *Acceptor) noteDelivered(s *session, d direction, path metrics.Path, n int) {
	if s.note == 0 {
		return
	}
	t := a.notes.at(s.note)
	t.bytes[d] += uint64(n)
	if path == metrics.PathSplice {
		t.flags |= journal.Spliced
	}
}

// noteEnd writes a session's last record. Its descriptors are still open.
func (a *Acceptor) noteEnd(slot int32, s *session, reason metrics.Reason) {
	if a.want != 0 {
		a.describe(slot, s, journal.KindClosed)
		a.record.Reason = reason
		a.Journal.Write(&a.record)
	}
	if s.note != 0 {
		a.notes.giveBack(s.note)
		s.note = 0
	}
}

// noteLost writes down a session whose connection was lost on its way from another
// acceptor: nothing is known of it.
func (a *Acceptor) noteLost(l *listener) {
	if a.want != 0 {
		a.record = journal.Record{
			Session: journal.NewID(a.Seat, 0, 0), Listener: l.ID, Opened: a.now, At: a.now,
			Kind: journal.KindClosed, Reason: metrics.ReasonInternal, Flags: journal.Partial,
		}
		a.Journal.Write(&a.record)
	}
}

// noteReject writes down a connection that does not become a session.
func (a *Acceptor) noteReject(l *listener, fd int, reject metrics.Reject) {
	if a.want == 0 {
		return
	}
	a.record = journal.Record{
		Session: journal.NewID(a.Seat, 0, 0), Listener: l.ID, Opened: a.now, At: a.now, Kind: journal.KindRejected, Reject: reject,
	}
	a.record.Client = journal.PeerOf(a.sys.PeerAddr(fd))
	a.Journal.Write(&a.record)
}

// describe fills in the record with all that is known of a session.
func (a *Acceptor) describe(slot int32, s *session, kind journal.Kind) {
	a.record = journal.Record{Session: a.idOf(slot, s), Listener: a.listenerOf(s).ID, Opened: s.opened, At: a.now, Kind: kind}
	if s.note == 0 {
		a.record.Flags = journal.Partial
		if q := a.listenerOf(s).inquiry; q == nil || q.Proxy == ProxyOff { // else the peer may be a balancer
			a.record.Client = journal.PeerOf(a.sys.PeerAddr(int(s.fd[client])))
		}
		if s.route != 0 { // the generation is not known any more, as below
			a.record.Route = metrics.ID(s.route - 1)
			a.record.Flags |= journal.Routed
		}
		if s.picked { // the generation is not known any more; the index is no other's while it lives
			a.record.Target, a.record.Tries = metrics.ID(s.target), 1
		}
		return
	}
	n := a.notes.at(s.note)
	a.record.Client, a.record.Route = n.client, n.route
	a.record.Target, a.record.Tries, a.record.Flags = n.target, n.tries, n.flags
	a.record.Dialed, a.record.Connected = n.dialed, n.connected
	a.record.Received, a.record.Sent = n.bytes[toBackend], n.bytes[toClient]
}
