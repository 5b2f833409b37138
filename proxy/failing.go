package proxy

import (
	"math"
	"time"

	"sluice/metrics"
)

// What is known of a target that does not take connections lies on the board, where the
// acceptors of both modes share it (metrics.Failing): pickers rank it last. When its time
// is over the acceptor whose connect failed probes it, see probe_linux.go, and a time
// twice as long begins if that fails, too.
const (
	// The first time is short: a backend that is started anew answers within a second or
	// two. The longest is what one that has come back waits at most, and lets 1,000 dead
	// ones cost 100 connects a second.
	firstTime   = 500 * time.Millisecond
	longestTime = 10 * time.Second
	// timeJitter is the share by which a time is longer or shorter, so that the probes of
	// targets that failed together do not go in step.
	timeJitter = 0.25
	// suspectAfter is how long a connect may go unanswered until its target is ranked
	// last: longer than a way round the world, and shorter than a second, after which the
	// SYN is repeated. So of the sessions that come while a silent target is found out one
	// or two wait for connect_timeout, and not its share of all.
	suspectAfter = 250 * time.Millisecond
)

// timeFor is how long a target with this many failures in a row is ranked last.
func (a *Acceptor) timeFor(p *pooled, failures int) time.Duration {
	first, longest, jitter := firstTime, longestTime, timeJitter
	if e := p.Ejection; e.Time > 0 {
		first, longest, jitter = e.Time, e.MaxTime, e.Jitter
	}
	d := longest
	if n := failures - 1; n < 16 {
		d = min(first<<n, longest)
	}
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*a.random.Float64()))
}

// ranksLast says whether a connect that failed so speaks against the target. The others
// are a lack of sluice's own, and end with it.
func ranksLast(class metrics.ConnectError) bool {
	return class != metrics.ConnectNoPorts && class != metrics.ConnectNoSource
}

// failed notes that a target did not take a session, and tells the operator if that is
// new. Of the sessions that were under way to it the first counts.
func (a *Acceptor) failed(p *pooled, id metrics.ID, class metrics.ConnectError) {
	if !ranksLast(class) {
		a.lacksOwn(p, id, class)
		return
	}
	if class == metrics.ConnectReset && p.Ejection.Early > 0 { // taken, and reset before it was seen
		a.strike(p, uint16(id.Index()))
		return
	}
	cell := &a.Board.Failing()[id.Index()]
	if need := p.Ejection.ConnectFailures; need > 1 && cell.Load() == 0 {
		now := a.Board.Strikes()[id.Index()].Change(func(s *metrics.Strike) { s.Connects = metrics.More(s.Connects) })
		if int(now.Connects) < need {
			return
		}
	}
	for {
		was := cell.Load()
		if was.Failures() > 0 && time.Duration(a.now) < was.Until() {
			return
		}
		if a.failedAgain(p, id, was, class) {
			return
		}
	}
}

// failedAgain begins a target's next time, unless another acceptor has noted something
// of it since was.
func (a *Acceptor) failedAgain(p *pooled, id metrics.ID, was metrics.Failure, class metrics.ConnectError) bool {
	n := was.Failures() + 1
	next := metrics.NewFailure(time.Duration(a.now)+a.timeFor(p, n), n, a.Seat, class)
	if !a.Board.Failing()[id.Index()].CompareAndSwap(was, next) {
		return false
	}
	a.probes.add(id, next)
	if n == 1 {
		a.Board.Target(a.Seat, id).Ejected[metrics.EjectConnect].Add(1)
		a.notify(Notice{Kind: NoticeConnectFailed, Name: p.nameOf(id), Class: class})
	}
	return true
}

// suspect ranks last a target to which a connect goes unanswered. Should its session go
// before it is decided, a probe decides.
func (a *Acceptor) suspect(p *pooled, id metrics.ID) {
	next := metrics.NewFailure(time.Duration(a.now)+p.ConnectTimeout, 0, a.Seat, metrics.ConnectTimeout)
	if a.Board.Failing()[id.Index()].CompareAndSwap(0, next) {
		a.probes.add(id, next)
	}
}

// works notes that a target took a session's connection. It says nothing of one that was
// ejected for what comes after that.
func (a *Acceptor) works(p *pooled, id metrics.ID) {
	if p.Ejection.ConnectFailures > 1 {
		if strikes := &a.Board.Strikes()[id.Index()]; strikes.Load().Connects > 0 {
			strikes.Change(func(s *metrics.Strike) { s.Connects = 0 })
		}
	}
	if f := a.Board.Failing()[id.Index()].Load(); f != 0 && f.Class() != metrics.EarlyClose {
		a.restore(p, id)
	}
}

// restore ends a target's time: it took a connection, and it is picked like others.
func (a *Acceptor) restore(p *pooled, id metrics.ID) {
	if was := a.Board.Failing()[id.Index()].Swap(0); was.Failures() > 0 {
		a.notify(Notice{Kind: NoticeConnectRestored, Name: p.nameOf(id)})
	}
}

// lacksOwn tells the operator that no source port is left, or that the source is not here.
func (a *Acceptor) lacksOwn(p *pooled, id metrics.ID, class metrics.ConnectError) {
	n := Notice{Kind: NoticeNoPorts, Name: p.nameOf(id), Class: class}
	if class == metrics.ConnectNoSource {
		n.Kind, n.Source = NoticeNoSource, p.origins.missing
		if p.Transparent {
			n.Kind = NoticeNotAsClient
		}
	}
	a.complain(p, n)
}

// complain tells the operator of something that each session meets, once a second and
// pool: the log counts them by target.
func (a *Acceptor) complain(p *pooled, n Notice) {
	if p.complained != 0 && a.now-p.complained < int64(time.Second) {
		return
	}
	p.complained = a.now
	a.notify(n)
}

// takeOver lets this acceptor probe the failing targets of seats of which mine says that
// they are its to look after: its own, after its process was started again, and those of
// acceptors that have left or hang.
func (a *Acceptor) takeOver(mine func(seat int) bool) {
	failing := a.Board.Failing()
	for i := range a.bound.plan.Pools {
		for _, t := range a.bound.plan.Pools[i].Targets {
			cell := &failing[t.ID.Index()]
			was := cell.Load()
			if was == 0 || !mine(was.Seat()) {
				continue
			}
			next := metrics.NewFailure(was.Until(), was.Failures(), a.Seat, was.Class())
			if was == next || cell.CompareAndSwap(was, next) {
				a.probes.add(t.ID, next)
			}
		}
	}
}

// inherits says whether the failing targets of a seat are this acceptor's to probe: if
// they are its own, or that seat does not serve any more and it is the first that does.
func (a *Acceptor) inherits(seat int) bool {
	if seat == a.Seat {
		return true
	}
	first := math.MaxInt
	for _, s := range a.bound.plan.Seats {
		if s.Phase != PhaseServing {
			continue
		}
		if s.Number == seat {
			return false
		}
		first = min(first, s.Number)
	}
	return first == a.Seat
}
