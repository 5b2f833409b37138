package config

import (
	"strconv"
	"time"
)

// Ejection says when a target is picked last for what sessions meet there, and for how long.
type Ejection struct {
	ConnectFailures int           // connects in a row that fail
	Early           time.Duration // from the connect: a session closed by then, and told nothing, counts; 0 = none does
	EarlyCloses     int           // of these in a row
	Time, MaxTime   time.Duration // of the first ejection, and of the longest: each doubles the one before
	Jitter          float64       // 0..1: each is longer or shorter by up to this share
	MaxShare        float64       // 0..1: of the targets, that may be out when one is ejected for EarlyCloses
}

func defaultEjection() Ejection {
	return Ejection{
		ConnectFailures: 1, // a target that works refuses nothing
		// Off: there are protocols in which a server that says nothing and closes is well,
		// and clients that make it do so.
		Early:       0,
		EarlyCloses: 3, // two in a row may be the doing of one client
		// The first time is short: a backend that is started anew answers within a second or
		// two. The longest is what one that has come back waits at most, and lets 1,000 dead
		// ones cost 100 connects a second.
		Time:    500 * time.Millisecond,
		MaxTime: 10 * time.Second,
		// So that those that failed together are not probed in step.
		Jitter: 0.25,
		// The others get the sessions of those that are out: twice their own at most.
		MaxShare: 0.5,
	}
}

const maxEjection = time.Hour

// Share is the part of the pool's targets that may be out when one is ejected for what
// sessions say: with more the pool would be in panic, were it for checks.
func (p Pool) Share() float64 { return min(p.Ejection.MaxShare, 1-p.PanicBelow) }

func (b *builder) checkEjection(p Pool) {
	if e := p.Ejection; e.Time > e.MaxTime {
		table := pathOf("pool", p.Name) + ".ejection"
		at, given := b.origin[table+".time"]
		if !given {
			at = b.origin[table+".max_time"]
		}
		b.fault(at, "time is %s and max_time %s: the first ejection cannot be longer than the longest", short(e.Time), short(e.MaxTime))
	}
}

// notes are what sluice check says of it where it is not as usual; "" = it is.
func (e Ejection) notes() string {
	if e == defaultEjection() {
		return ""
	}
	text := "ejected after " + strconv.Itoa(e.ConnectFailures) + " failed connects"
	if e.Early > 0 {
		text += " or " + strconv.Itoa(e.EarlyCloses) + " closes within " + short(e.Early)
	}
	return text + ", for " + short(e.Time) + " to " + short(e.MaxTime)
}
