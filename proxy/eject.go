package proxy

import (
	"time"

	"sluice/metrics"
)

// A target may take connections and serve none: its process is overloaded, or something
// in front of it accepts. Sessions tell. One that the target ends within Ejection.Early of
// its connect, before it has said a word, is a strike; a first word, or a session that
// outlasts that time, takes all strikes back. A target with EarlyCloses of them in a row
// is ejected: picked last, like a target that takes no connections (failing.go), and
// probed when its time is over.
//
//	works ◄──► struck ──enough in a row──► ejected ──its time is over, a probe connects──┐
//	  ▲                     ▲  the next early close is enough, for twice the time        │
//	  └─────first word──────┴────────────────────── on probation ◄───────────────────────┘
//
// Of a tier of the pool MaxShare may be out: down by its checks, taken out by an operator,
// failing or ejected. With more none is ejected for this: the others could not bear it, and
// clients that provoke it must not empty a pool. None is ejected either while the pool is in
// panic, which has let back those that were (package health).

// provingFrom is when a session that now begins to relay is no longer watched, in
// milliseconds of the clock; 0 = it is not.
func (a *Acceptor) provingFrom(p *pooled) uint32 {
	if p.Ejection.Early <= 0 {
		return 0
	}
	return max(1, a.millis()+uint32(p.Ejection.Early.Milliseconds()))
}

// millis wraps around after 49 days; what it is compared with is at most an hour away.
func (a *Acceptor) millis() uint32 { return uint32(a.now / int64(time.Millisecond)) }

// proves notes that the target of s serves: it has said something, or kept it long enough.
func (a *Acceptor) proves(s *session) {
	s.proving = 0
	if s.picked {
		a.Board.Strikes()[s.target].Clear()
	}
}

// judgeEnd looks at how a session ends that was watched to its end.
func (a *Acceptor) judgeEnd(s *session, reason metrics.Reason) {
	refused := reason == metrics.ReasonStartTLSRefused || reason == metrics.ReasonStartTLSTimeout // however long it took
	late := !refused && int32(a.millis()-s.proving) > 0
	early := refused || !late && (reason == metrics.ReasonBackendReset || reason == metrics.ReasonBackendEOF)
	switch {
	case late:
		a.proves(s)
	case early && s.picked:
		s.proving = 0
		if p := a.poolWith(s.target); p != nil {
			a.strike(p, s.target)
		}
	}
}

// poolWith is the pool that has a target now: a session may have come by a route.
func (a *Acceptor) poolWith(target uint16) *pooled {
	for _, p := range a.bound.pools {
		if p.target(target) != nil {
			return p
		}
	}
	return nil
}

// strike counts an early close, and ejects the target if that is one too many.
func (a *Acceptor) strike(p *pooled, index uint16) {
	e := p.Ejection
	strikes, cell := &a.Board.Strikes()[index], &a.Board.Failing()[index]
	now := strikes.Change(func(s *metrics.Strike) { s.Closes = metrics.More(s.Closes) })
	t := p.target(index)
	if e.EarlyCloses <= 0 || int(now.Closes) < e.EarlyCloses || t == nil || cell.Load() != 0 {
		return
	}
	again := int(now.Ejections) + 1
	next := metrics.NewFailure(time.Duration(a.now)+a.timeFor(p, again), again, a.Seat, metrics.EarlyClose)
	// Two acceptors may eject two targets at once. Both look again after it, so that the
	// share is never passed for longer than that.
	if !p.hasRoom(a, t.Backup, 1) || !cell.CompareAndSwap(0, next) {
		a.capped(p)
		return
	}
	if !p.hasRoom(a, t.Backup, 0) {
		cell.CompareAndSwap(next, 0)
		a.capped(p)
		return
	}
	strikes.Change(func(s *metrics.Strike) {
		s.Closes, s.Ejections = uint8(e.EarlyCloses-1), metrics.More(s.Ejections)
	})
	a.probes.add(t.ID, next)
	a.Board.Target(a.Seat, t.ID).Ejected[metrics.EjectEarlyClose].Add(1)
	a.notify(Notice{Kind: NoticeEjected, Name: p.nameOf(t.ID)})
}

// capped tells the operator that a target stays in for lack of room.
func (a *Acceptor) capped(p *pooled) {
	p.cells.Capped.Add(1)
	a.complain(p, Notice{Kind: NoticeEjectionCapped, Name: p.Name})
}

// hasRoom says whether that many more of a tier may be out. It looks at each
// target, which only costs when one is ejected.
func (p *pooled) hasRoom(a *Acceptor, backup bool, more int) bool {
	if a.Board.Panics()[p.ID.Index()].Load() != 0 {
		return false
	}
	failing, weights := a.Board.Failing(), a.Board.Weights()
	all, out := 0, more
	for i := range p.Targets {
		if t := &p.Targets[i]; t.Backup == backup {
			all++
			if at := t.ID.Index(); failing[at].Load() != 0 || weights[at].Load() == 0 {
				out++
			}
		}
	}
	const rounding = 1e-9 // 1 - 0.9 is a bit less than 0.1
	return float64(out) <= p.Ejection.MaxShare*float64(all)+rounding
}
