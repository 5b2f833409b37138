package accesslog

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"sluice/metrics/journal"
)

// tailKeeps is how many records of a kind the page can look back on.
const tailKeeps = 256

// Tail keeps the last records for people who watch, whatever the access log is set to:
// those of sessions that ended well, and on a ring of their own those that did not, which
// would be drowned otherwise. It is filled only while it is on.
type Tail struct {
	on atomic.Bool

	mu     sync.Mutex
	number uint64 // of records that there were
	rings  [2][]kept
	seen   [2]uint64 // records that each ring has had
}

// kept is a record and its number.
type kept struct {
	journal.Record
	number uint64
}

// Ended are lines about sessions that have ended.
type Ended struct {
	Last   uint64   // the number of the newest; to be asked with next time
	Missed uint64   // records that were not kept long enough
	Lines  [][]byte // the oldest first; JSON objects of the fields of the access log
}

// Follow turns the tail on or off. What it has, it keeps.
func (t *Tail) Follow(on bool) { t.on.Store(on) }

func (t *Tail) add(r *journal.Record) {
	if !t.on.Load() || r.Kind != journal.KindClosed && r.Kind != journal.KindRejected {
		return
	}
	ring := 0
	if !normal(r) {
		ring = 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number++
	k := kept{*r, t.number}
	if len(t.rings[ring]) < tailKeeps {
		t.rings[ring] = append(t.rings[ring], k)
	} else {
		t.rings[ring][t.seen[ring]%tailKeeps] = k
	}
	t.seen[ring]++
}

// after are the records that came after a number, and how many of them were not kept. One
// that is not of this process gets all that there are.
func (t *Tail) after(number uint64) (all []kept, last, missed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := number
	if number > t.number {
		since = 0
	}
	for _, ring := range t.rings {
		for i := range ring {
			if ring[i].number > since {
				all = append(all, ring[i])
			}
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return int(int64(a.number - b.number)) })
	if number == 0 || number > t.number { // a viewer that has just come has missed nothing
		return all, t.number, 0
	}
	return all, t.number, t.number - since - uint64(len(all))
}

// Ended returns what came after the record with that number: 0 is all that is kept. It may
// be called by any goroutine.
func (l *Log) Ended(after uint64) Ended {
	records, last, missed := l.Tail.after(after)
	ended := Ended{Last: last, Missed: missed}
	e := entry{epoch: sinceEpoch()}
	for i := range records {
		l.name(&e, &records[i].Record)
		ended.Lines = append(ended.Lines, bytes.TrimSuffix(appendJSON(nil, &e), []byte("\n")))
	}
	return ended
}
