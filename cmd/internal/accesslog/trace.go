package accesslog

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"sluice/metrics/journal"
)

// The rings hold what happened last to sessions, written to a log or not: they are the flight
// recorder that a trace reads.
//
//	rings ─ Recent ─► which sessions are meant, the newest ─ Recent ─► all records of these, with names
//
// It reads what the log's own goroutine reads, and takes nothing away from it.

// Story is what the rings say of a session, in the order in which it happened. One of a
// connection that never was a session has one record.
type Story struct {
	ID      journal.ID
	Records []Told
}

// Told is a record with names and times.
type Told struct {
	journal.Record
	Listener Listener
	Route    string // that it took; "" = none
	Target   Target
	Time     time.Time // it happened
	Opened   time.Time // accepted
}

// Meant names sessions: that with an ID, or those of a client.
type Meant struct {
	ID     journal.ID
	Client netip.AddrPort // port 0 = any
}

func (m *Meant) has(r *journal.Record) bool {
	if m.ID != 0 {
		return r.Session == m.ID
	}
	c := r.Client.AddrPort()
	return c.Addr() == m.Client.Addr() && (m.Client.Port() == 0 || m.Client.Port() == c.Port())
}

// storyKey tells apart connections that never were sessions: all of a seat have the same ID.
type storyKey struct {
	id journal.ID
	at int64
}

func keyOf(r *journal.Record) storyKey {
	if r.Session.Use() == 0 {
		return storyKey{r.Session, r.At}
	}
	return storyKey{id: r.Session}
}

// Stories are the newest of those that are meant, up to most of them, the newest first;
// total is how many there are in the rings. It may be called by any goroutine.
func (l *Log) Stories(m Meant, most int) (all []Story, total int) {
	opened := map[storyKey]int64{}
	l.reader.Recent(func(r *journal.Record) {
		if m.has(r) {
			opened[keyOf(r)] = r.Opened
		}
	})
	var keys []storyKey
	for k := range opened {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b storyKey) int { return cmp.Or(cmp.Compare(opened[b], opened[a]), cmp.Compare(b.id, a.id)) })
	total = len(keys)
	keys = keys[:min(most, total)]
	place := map[storyKey]int{}
	all = make([]Story, len(keys))
	for i, k := range keys {
		place[k], all[i].ID = i, k.id
	}
	epoch := sinceEpoch()
	l.reader.Recent(func(r *journal.Record) {
		if i, is := place[keyOf(r)]; is {
			all[i].Records = append(all[i].Records, l.tell(r, epoch))
		}
	})
	return slices.DeleteFunc(all, func(s Story) bool { return len(s.Records) == 0 }), total // what was written over meanwhile
}

func (l *Log) tell(r *journal.Record, epoch int64) Told {
	var e entry
	l.name(&e, r)
	return Told{Record: *r, Listener: e.listener, Route: e.route.Name, Target: e.target, Time: time.Unix(0, r.At+epoch).UTC(), Opened: time.Unix(0, r.Opened+epoch).UTC()}
}

// Since is as far as the ring of a seat goes back; the zero time: nothing was forgotten.
func (l *Log) Since(seat int) time.Time {
	at, forgot := l.reader.Oldest(seat)
	switch {
	case !forgot:
		return time.Time{}
	case at == 0: // all of it was written over meanwhile
		return time.Now().UTC()
	}
	return time.Unix(0, at+sinceEpoch()).UTC()
}

// Died is when a worker died last at a seat; the zero time: none did.
func (l *Log) Died(seat int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.died[seat]
}
