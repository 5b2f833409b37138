package proxy

import (
	"time"

	"sluice/metrics"
)

// Paces bound how quickly a listener's bytes are moved, by direction.
type Paces struct {
	Session [2]Pace // of each session
	All     [2]Pace // of all sessions together, over all acceptors and addresses
}

// Pace is a bound on bytes; the zero Pace is none. It is a token bucket, kept as the time
// up to which it is spent (see access.Spend), in steps that the wheel can wait for.
type Pace struct {
	Rate  int64 // a second
	Burst int64 // so many at once after a rest; never less than MinBurst lets through
}

// MinBurst is how much of a rate its burst must hold. A half sleeps on the wheel, so what
// came meanwhile must have room: it wakes up to two ticks late, and a busy loop later yet.
const MinBurst = 250 * time.Millisecond

// A half whose pace is spent books a portion ahead and sleeps until that falls due:
//
//	move ──► booked? ──no──► book: spent moves on ──due──► read at most that ──► what was not there goes back
//	            │yes                     │ not yet
//	            │                        ▼
//	            └◄──── due ────── half.wake, on the wheel
//
// Halves that share a bucket stand in line by that, over all acceptors and without a list:
// one that has moved its portion books behind all that wait. So all get the same, whatever
// they are sent. What a worker that dies had booked is lost to the others once: a portion
// for each session that waited.
const (
	// A session by itself moves what comes in two ticks, so it wakes ten times a second.
	ownPortion = 2 * tickLength
	// Of what is shared a portion is what comes in a tick, less a tenth of the line, and this
	// at least. So two sessions fill the time that a loop sleeps, else the loop that wakes
	// first would find the other's share; and a small message waits 0.5 s at most behind a
	// hundred streams.
	sharedPortion    = tickLength
	minSharedPortion = sharedPortion / 10
	// In bytes it is about a segment at least, unless the burst is smaller.
	minPortion = 1448
	maxPortion = 64 << 20
	// A turn moves less, so that halves that share a burst take turns.
	pacedTurn = 256 << 10
)

// pace is a Pace made ready.
type pace struct {
	rate  int64
	spare int64 // nanoseconds that the burst is worth
}

// paced is what bounds a direction of a listener's sessions.
type paced struct {
	own, all pace
	least    int            // bytes booked at a time
	most     int            // the same
	spent    *metrics.Gauge // of all
}

// pacing is what a session has of it, by direction.
type pacing struct {
	spent  [2]metrics.Gauge // as its listener's, of its own rate
	booked [2]int           // bytes that it may move
	since  [2]int64         // clock at which it began to wait for them
}

// newPaced returns nil where nothing bounds the direction.
func newPaced(own, all Pace, spent *metrics.Gauge) *paced {
	if own.Rate == 0 && all.Rate == 0 {
		return nil
	}
	p := &paced{own: own.ready(), all: all.ready(), least: minPortion, most: maxPortion, spent: spent}
	for _, b := range []Pace{own, all} {
		if b.Rate > 0 {
			p.least = int(min(int64(p.least), max(b.Burst, 1)))
		}
	}
	if own.Rate > 0 {
		p.most = max(min(p.own.bytes(ownPortion), maxPortion), p.least)
	}
	return p
}

// portion is how many bytes a half books at clock now.
func (p *paced) portion(now int64) int {
	if p.all.rate == 0 {
		return p.most
	}
	line := time.Duration(max(p.spent.Load()-p.all.spare-now, 0))
	return min(max(p.all.bytes(max(sharedPortion-line/10, minSharedPortion)), p.least), p.most)
}

// bytes is what a rate brings in a time, of a second at most.
func (p pace) bytes(in time.Duration) int { return int(p.rate * int64(in) / int64(time.Second)) }

func (p Pace) ready() pace {
	if p.Rate == 0 {
		return pace{}
	}
	return pace{rate: p.Rate, spare: max(int64(float64(p.Burst)/float64(p.Rate)*float64(time.Second)), int64(MinBurst))}
}

// cost is what n bytes are worth; n is at most maxPortion.
func (p pace) cost(n int) int64 { return int64(n) * int64(time.Second) / p.rate }

// book spends n bytes, and says how long it is until they may be moved: 0 = now.
func (p pace) book(spent *metrics.Gauge, n int, now int64) (wait int64) {
	if p.rate == 0 {
		return 0
	}
	for {
		was := spent.Load()
		is := max(was, now) + p.cost(n)
		if spent.CompareAndSwap(was, is) {
			return max(is-p.spare-now, 0)
		}
	}
}

// unbook takes back n bytes that book has spent.
func (p pace) unbook(spent *metrics.Gauge, n int) {
	if p.rate > 0 {
		spent.Add(-p.cost(n))
	}
}

// readPaced is read for a half whose direction is bounded. It returns asleep while the
// half has to wait; relay arms the wheel then.
func (a *Acceptor) readPaced(slot int32, s *session, d direction, p *paced) (int, verdict) {
	h, src := &s.half[d], side(d)
	if h.wake > a.tick {
		return 0, asleep
	}
	own := a.pacingOf(slot)
	a.wakeUp(s, d, own)
	if own.booked[d] == 0 {
		n := p.portion(a.now)
		if s.ready[src]&(eof|broken) != 0 {
			if left, errno := a.sys.Unread(int(s.fd[src])); errno == 0 {
				n = min(n, left)
			}
			if n == 0 { // nothing but the end
				return a.read(s, d, minPortion)
			}
		}
		own.booked[d] = n
		wait := max(p.own.book(&own.spent[d], n, a.now), p.all.book(p.spent, n, a.now))
		if wait > 0 {
			h.wake, own.since[d] = a.tickIn(wait), a.now
			a.listenerOf(s).cells.HeldBack[d].Add(1)
			return 0, asleep
		}
	}
	n, v := a.read(s, d, own.booked[d])
	own.booked[d] -= n + int(h.held)
	if v != blocked || h.state != halfOpen || s.ready[src]&readable == 0 {
		p.giveBack(own, d)
	}
	return n, v
}

// tickIn is the first tick at which a wait is over.
func (a *Acceptor) tickIn(wait int64) uint32 {
	const farthest = int64(24 * time.Hour) // it would book again after that
	return a.tickAt(a.now+min(wait, farthest)) + 1
}

// wakeUp ends the wait of a half, if it was waiting.
func (a *Acceptor) wakeUp(s *session, d direction, own *pacing) {
	if h := &s.half[d]; h.wake != 0 {
		h.wake = 0
		a.listenerOf(s).cells.HeldBackNanos[d].Add(uint64(a.now - own.since[d]))
	}
}

// wakeDue ends the waits that are over, and says whether there were any. From here the
// session's time without a byte counts.
func (a *Acceptor) wakeDue(slot int32, s *session) (any bool) {
	for d := range s.half {
		if w := s.half[d].wake; w != 0 && w <= a.tick {
			a.wakeUp(s, d, a.pacingOf(slot))
			s.moved, any = a.tick, true
		}
	}
	return any
}

// isAsleep says whether a half waits for its pace.
func (s *session) isAsleep() bool { return s.half[toBackend].wake|s.half[toClient].wake != 0 }

// giveBack returns what is booked and not used.
func (p *paced) giveBack(own *pacing, d direction) {
	if n := own.booked[d]; n > 0 {
		own.booked[d] = 0
		p.own.unbook(&own.spent[d], n)
		p.all.unbook(p.spent, n)
	}
}

// pacingOf is a session's, by its slot. It is zero as a session begins.
func (a *Acceptor) pacingOf(slot int32) *pacing {
	for int(slot) >= len(a.pacings) {
		a.pacings = append(a.pacings, pacing{})
	}
	return &a.pacings[slot]
}

// leavePace ends what a session has of it, as the session ends.
func (a *Acceptor) leavePace(slot int32, s *session) {
	if int(slot) >= len(a.pacings) {
		return
	}
	own, l := &a.pacings[slot], a.listenerOf(s)
	for d := range s.half {
		a.wakeUp(s, d, own)
		if p := l.paced[d]; p != nil {
			p.giveBack(own, d)
		}
	}
	*own = pacing{}
}

// repace lets a running session begin anew with another pace, or none.
func (a *Acceptor) repace(slot int32, s *session) {
	if int(slot) >= len(a.pacings) || s.state != stateRelaying {
		return
	}
	own := &a.pacings[slot]
	for d := range s.half {
		a.wakeUp(s, d, own)
	}
	*own = pacing{}
	a.enqueue(slot, s)
}
