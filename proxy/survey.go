package proxy

import (
	"net/netip"
	"slices"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
)

// A Survey asks an acceptor for its sessions, or has it end some of them:
//
//	Survey() ─► posted ─► pieces of a turn each: look at sessions, keep the first Limit by Order
//	                      ─► pieces: describe these, or end them ─► Surveyed
//
// It is the one way to end sessions from outside: an operator's kill, a backend that has
// left, one that has too many. A caller that wants a pace asks for a few again and
// again.
type Survey struct {
	Filter Filter         `json:"filter"`
	Order  Order          `json:"order,omitempty"`
	Limit  int            `json:"limit,omitempty"` // sessions that are described, or ended; 0 = they are only counted
	End    bool           `json:"end,omitempty"`
	Reason metrics.Reason `json:"reason,omitempty"` // if End
	Until  int64          `json:"until"`            // CLOCK_MONOTONIC, nanoseconds: nothing is done later, however long the loop hangs
	Ways   *Ways          `json:"ways,omitempty"`   // in place of sessions; nil = it is about sessions
}

// Filter says which sessions are meant: those to which all of it applies. The zero value
// means all.
type Filter struct {
	ID        journal.ID     `json:"id,omitempty"`
	Clients   []netip.Prefix `json:"clients,omitempty"`   // any of them
	Listeners []uint32       `json:"listeners,omitempty"` // metrics.ID.Index; any of them
	Targets   []uint32       `json:"targets,omitempty"`   // the same
	State     HeldState      `json:"state,omitempty"`
	MinAge    time.Duration  `json:"min_age,omitempty"`
	MaxAge    time.Duration  `json:"max_age,omitempty"`   // 0 = no bound
	MinIdle   time.Duration  `json:"min_idle,omitempty"`  // since the last byte in either direction
	MinBytes  uint64         `json:"min_bytes,omitempty"` // both directions together
	MaxBytes  uint64         `json:"max_bytes,omitempty"` // 0 = no bound
}

// Order says which sessions come first.
type Order uint8

// The orders.
const (
	OldestFirst Order = iota
	NewestFirst
	IdlestFirst
	LargestFirst // by bytes in both directions
	numOrders
)

// HeldState is how far a session has come.
type HeldState uint8

// The states. None is any of them, in a Filter.
const (
	HeldAny HeldState = iota
	HeldWaiting
	HeldDialing
	HeldRelaying
	HeldHalfClosed
	NumHeldStates
)

var heldStates = [NumHeldStates]string{"any", "waiting", "dialing", "relaying", "half_closed"}

// String is the state's word; one out of range has none.
func (s HeldState) String() string {
	if s < NumHeldStates {
		return heldStates[s]
	}
	return "?"
}

// HeldStateOf is the state with a word.
func HeldStateOf(word string) (HeldState, bool) {
	for i := HeldWaiting; i < NumHeldStates; i++ {
		if heldStates[i] == word {
			return i, true
		}
	}
	return HeldAny, false
}

// Surveyed is what became of a Survey.
type Surveyed struct {
	Seen    int    `json:"seen"`    // sessions that were there
	Matched int    `json:"matched"` // of these
	Ended   int    `json:"ended,omitempty"`
	Late    bool   `json:"late,omitempty"` // its time was over before all was done
	Held    []Held `json:"held,omitempty"` // in no order

	// To a Survey with Ways:
	Known bool         `json:"known,omitempty"` // the acceptor has the pool
	Full  bool         `json:"full,omitempty"`  // behind Ways come only targets that have max_sessions
	Ways  []metrics.ID `json:"ways,omitempty"`  // in the order of its tries; none of a pool that draws
}

// Held is a session as it is described. Bytes are what the kernel has counted on the
// client's connection: what came from it and what it has acknowledged. A FIN counts as one.
type Held struct {
	ID       journal.ID     `json:"id"`
	Client   netip.AddrPort `json:"client,omitzero"` // the zero one if it has gone
	Listener uint32         `json:"listener"`        // metrics.ID.Index
	Target   int32          `json:"target"`          // the same; -1 = it has none now
	State    HeldState      `json:"state"`
	Age      time.Duration  `json:"age"`
	Idle     time.Duration  `json:"idle"` // to a tick of 50 ms
	Received uint64         `json:"received"`
	Sent     uint64         `json:"sent"`
}

// Check says whether a Survey makes sense.
func (q *Survey) Check() bool {
	below := func(numbers []uint32, limit uint32) bool {
		return len(numbers) == 0 || slices.Max(numbers) < limit
	}
	return q.Ways.Check() && q.Order < numOrders && q.Limit >= 0 && q.Reason < metrics.NumReasons && q.Filter.State < NumHeldStates &&
		below(q.Filter.Listeners, metrics.MaxListeners) && below(q.Filter.Targets, metrics.MaxTargets)
}

// Survey has the loop answer q. The answer goes to done, which must have room for it; a
// loop that hangs gives none. It waits for nothing.
func (a *Acceptor) Survey(q Survey, done chan<- Surveyed) {
	v := &surveying{
		Survey: q, done: done, listeners: bitsetOf(q.Filter.Listeners), targets: bitsetOf(q.Filter.Targets),
		// Allocated here, not in the loop. Sessions that come meanwhile may be left out.
		kept: make([]keptSession, 0, min(q.Limit, int(a.cells.Sessions.Load())+chunkSize)),
	}
	if !q.End {
		v.out.Held = make([]Held, 0, cap(v.kept))
	}
	a.post(func() { a.surveys = append(a.surveys, v) })
}

// surveys are those that a loop has been asked for and not yet answered, in their order.
type surveys []*surveying

// surveying is a Survey under way.
type surveying struct {
	Survey
	done      chan<- Surveyed
	listeners bitset
	targets   bitset
	next      int32         // the slot that it comes to
	kept      []keptSession // a heap with the last by Order on top
	at        int           // of kept, once all slots were seen
	seenAll   bool
	out       Surveyed
}

// keptSession is a session that may be meant; a smaller key comes first.
type keptSession struct {
	key  int64
	slot int32
	gen  uint32
}

const (
	// surveyTime is what surveys have of a turn: little beside streamTime.
	surveyTime = 200 * time.Microsecond
	// surveyStep is how many slots are looked at between two looks at the clock: at most
	// some 40 us, where each is asked for its address and bytes.
	surveyStep = 16
	// surveyCuts is how many sessions a turn ends: each costs about 10 us.
	surveyCuts = 50
)

// surveySome goes on with the first survey.
func (a *Acceptor) surveySome() {
	if len(a.surveys) == 0 {
		return
	}
	v := a.surveys[0]
	v.out.Late = a.now > v.Until
	if !v.out.Late && !a.carryOnWith(v) {
		return
	}
	a.surveys[0] = nil
	if a.surveys = a.surveys[1:]; len(a.surveys) == 0 {
		a.surveys = nil
	}
	select {
	case v.done <- v.out:
	default: // it is not waited for any more
	}
}

// carryOnWith does what a turn has time for; true = all is done.
func (a *Acceptor) carryOnWith(v *surveying) bool {
	if v.Survey.Ways != nil {
		a.foresee(v.Survey.Ways, &v.out)
		return true
	}
	begun := a.clockNow()
	for n := 1; ; n++ {
		if !v.seenAll {
			v.seenAll = !a.lookAtNext(v)
		} else if v.at == len(v.kept) || v.End && n > surveyCuts {
			return v.at == len(v.kept)
		} else {
			a.settleKept(v, v.kept[v.at])
			v.at++
		}
		if n%surveyStep == 0 && a.clockNow()-begun > int64(surveyTime) {
			return false
		}
	}
}

// lookAtNext looks at one slot; false = there is none left.
func (a *Acceptor) lookAtNext(v *surveying) bool {
	slot := v.next
	if id := v.Filter.ID; id != 0 { // it can be in one slot only
		if slot != 0 {
			return false
		}
		slot = id.Slot()
	}
	if slot >= a.slab.slots() {
		return false
	}
	v.next++
	s := a.slab.at(slot)
	if s.state == stateFree {
		return true
	}
	v.out.Seen++
	bytes, is := a.meant(v, slot, s)
	if !is {
		return true
	}
	v.out.Matched++
	v.keep(keptSession{a.keyOf(v.Order, s, bytes), slot, s.gen})
	return true
}

// meant says whether a session is one that v means. What costs a system call comes last.
func (a *Acceptor) meant(v *surveying, slot int32, s *session) (bytes uint64, is bool) {
	f := &v.Filter
	switch age := time.Duration(a.now - s.opened); {
	case f.ID != 0 && f.ID != a.idOf(slot, s),
		v.listeners != nil && !v.listeners.has(uint32(s.listener)),
		v.targets != nil && !(s.picked && v.targets.has(uint32(s.target))),
		f.State != HeldAny && f.State != heldState(s),
		age < f.MinAge, f.MaxAge > 0 && age > f.MaxAge,
		f.MinIdle > 0 && a.idleFor(s) < f.MinIdle:
		return 0, false
	}
	if len(f.Clients) > 0 && !contains(f.Clients, a.seenFrom(s).Addr().WithZone("")) {
		return 0, false
	}
	if f.MinBytes > 0 || f.MaxBytes > 0 || v.Order == LargestFirst && v.Limit > 0 {
		received, sent := a.sys.Moved(int(s.fd[client]))
		bytes = received + sent
		if bytes < f.MinBytes || f.MaxBytes > 0 && bytes > f.MaxBytes {
			return 0, false
		}
	}
	return bytes, true
}

func contains(all []netip.Prefix, addr netip.Addr) bool {
	for _, p := range all {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// seenFrom is where a session comes from, by its PROXY header while that is known; the
// zero address if it is not known any more.
func (a *Acceptor) seenFrom(s *session) netip.AddrPort {
	if s.note != 0 {
		return a.notes.at(s.note).client.AddrPort()
	}
	var at netip.AddrPort
	if s.opening != 0 {
		at = a.clientOf(s)
	} else {
		at = a.sys.PeerAddr(int(s.fd[client]))
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func (a *Acceptor) idleFor(s *session) time.Duration {
	return time.Duration(a.tick-s.moved) * tickLength
}

func (a *Acceptor) keyOf(o Order, s *session, bytes uint64) int64 {
	switch o {
	case NewestFirst:
		return -s.opened
	case IdlestFirst:
		return int64(s.moved)
	case LargestFirst:
		return -int64(bytes)
	}
	return s.opened
}

func heldState(s *session) HeldState {
	switch {
	case s.state == stateWaiting || s.state == statePreamble: // the latter for its client
		return HeldWaiting
	case s.state == stateDialing || s.state == stateUpgrading:
		return HeldDialing
	case s.halfClosed():
		return HeldHalfClosed
	}
	return HeldRelaying
}

// keep keeps a session if it is among the first Limit so far. O(log Limit).
func (v *surveying) keep(k keptSession) {
	h := v.kept
	switch {
	case len(h) < cap(h):
		h = append(h, k)
		v.kept = h
		for i := len(h) - 1; i > 0 && h[(i-1)/2].key < h[i].key; i = (i - 1) / 2 {
			h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		}
	case len(h) > 0 && k.key < h[0].key:
		h[0] = k
		for i := 0; ; {
			larger := i
			for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
				if h[child].key > h[larger].key {
					larger = child
				}
			}
			if larger == i {
				return
			}
			h[i], h[larger] = h[larger], h[i]
			i = larger
		}
	}
}

// settleKept describes a session that was kept, or ends it, if it is still there.
func (a *Acceptor) settleKept(v *surveying, k keptSession) {
	s := a.slab.at(k.slot)
	if s.state == stateFree || s.gen != k.gen {
		return
	}
	if v.End {
		// It may have moved, and gone to another backend, since it was looked at.
		if _, is := a.meant(v, k.slot, s); is {
			a.end(k.slot, s, a.endingFor(v.Reason, s))
			v.out.Ended++
		}
		return
	}
	h := Held{
		ID: a.idOf(k.slot, s), Client: a.seenFrom(s), Listener: uint32(s.listener), Target: -1, State: heldState(s),
		Age: time.Duration(a.now - s.opened),
	}
	h.Idle = min(a.idleFor(s), h.Age) // ticks are coarse
	if s.picked {
		h.Target = int32(s.target)
	}
	h.Received, h.Sent = a.sys.Moved(int(s.fd[client]))
	v.out.Held = append(v.out.Held, h)
}

// quietFor is how long a session that is moved to another backend must have been idle to
// end by a FIN, as one does that idle_timeout ends: its client connects anew when it next
// has something to say. Of any other, what was under way must not look complete.
const quietFor = time.Second

func (a *Acceptor) endingFor(reason metrics.Reason, s *session) ending {
	if reason == metrics.ReasonRebalanced && s.state == stateRelaying && a.idleFor(s) >= quietFor {
		return timedOut(reason)
	}
	return cutFor(reason)
}

// bitset is a set of small numbers.
type bitset []uint64

// bitsetOf is nil, which stands for all, where there are no numbers.
func bitsetOf(numbers []uint32) (b bitset) {
	for _, n := range numbers {
		for int(n/64) >= len(b) {
			b = append(b, 0)
		}
		b[n/64] |= 1 << (n % 64)
	}
	return b
}

func (b bitset) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }
