package metrics

import (
	"slices"
	"sync"
	"time"
)

// HistoryTicks is how many looks a History keeps: a quarter of an hour at one each 5 s.
const HistoryTicks = 180

// Bounds of a History.
const (
	// historySockets is how many sockets (listeners times seats) have charts of their
	// own: 1,024 x 180 x 12 B = 2.2 MB. Of a service with more, or with more things
	// that have a name, the sum is kept, which is at most 64 x 180 x 12 B = 140 KB, and
	// no queue is read.
	historySockets = 1024

	// historyNames is how many listeners, and how many pools, have charts of their
	// own: some 300 B a tick each, 64 x 180 x 300 B = 3.5 MB.
	historyNames = 64

	// historyTargets is how many cells of targets (targets times seats) one look may
	// read: some 4 cache lines each, 1 ms in all. Of a service with more each second,
	// third... look reads them.
	historyTargets = 4096
)

// History remembers what charts show of the last quarter of an hour. The control plane
// feeds it at the tick that feeds the Window, so it wakes nothing; a page that draws
// asks for what came since it asked last.
//
//	counters of the board ─► Sample: what they grew by since the last one ─► ring of ticks ─► Since
//
// Its zero value is ready and empty.
type History struct {
	mu     sync.Mutex
	ticks  []tick // a ring once it is full; the tick of number n is at n % HistoryTicks
	number uint64 // of ticks that there were
	before reading
	looks  uint64
}

// HistoryListener is a listener to be sampled.
type HistoryListener struct {
	Name, Pool string
	IDs        []ID                                 // more than one while a predecessor leaves
	Queue      func(seat int) (length int, ok bool) // of its socket
}

// HistoryPool is a pool to be sampled.
type HistoryPool struct {
	Name    string
	Targets []ID
}

// tick is what happened between two looks. Its parts are by the listener's name, "" is all.
type tick struct {
	at      time.Time
	seats   []int
	parts   map[string]part
	connect map[string]*latencies // by pool, "" is all; nil = they were not read, or cannot be compared
	pools   map[string]string     // of each listener
}

type part struct {
	sockets        []socket // as tick.seats
	received, sent float32  // bytes a second
}

type socket struct{ accepts, held, queue float32 } // accepts a second; queue -1 = not read

type latencies [len(LatencyBuckets) + 1]uint64 // not cumulative

// reading is what the counters stood at.
type reading struct {
	at      time.Time
	lives   [MaxAcceptors]uint64
	sockets map[ID]*[MaxAcceptors]counters
	targets []ID // of all pools
	connect map[string]*latencies
}

type counters struct{ accepted, received, sent uint64 }

// Sample looks at the counters as they are at now. The first look only notes them.
func (h *History) Sample(b *Board, listeners []HistoryListener, pools []HistoryPool, seats []int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cells := 0
	for _, p := range pools {
		cells += len(p.Targets) * len(seats)
	}
	stride := uint64(1 + cells/historyTargets)
	withTargets := h.looks%stride == 0
	h.looks++
	next, held := b.reading(listeners, pools, seats, withTargets)
	next.at = now
	first := h.before.sockets == nil
	if !first {
		h.append(h.before.tick(&next, held, listeners, seats))
	}
	if !withTargets {
		next.targets, next.connect = h.before.targets, h.before.connect
	}
	h.before = next
}

func (h *History) append(t tick) {
	if len(h.ticks) < HistoryTicks {
		h.ticks = append(h.ticks, t)
	} else {
		h.ticks[h.number%HistoryTicks] = t
	}
	h.number++
}

// reading reads the board; held are the gauges, by listener.
func (b *Board) reading(listeners []HistoryListener, pools []HistoryPool, seats []int, withTargets bool) (r reading, held map[ID]*[MaxAcceptors]int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r = reading{lives: b.lives, sockets: map[ID]*[MaxAcceptors]counters{}}
	held = map[ID]*[MaxAcceptors]int64{}
	var views [stripes]*view
	for _, seat := range seats {
		views[seat] = b.view(seat)
	}
	for _, l := range listeners {
		for _, id := range l.IDs {
			now, gauges := new([MaxAcceptors]counters), new([MaxAcceptors]int64)
			for _, seat := range seats {
				if c := cellsOf[ListenerCells](views[seat], listenerTable, id.Index()); c != nil {
					now[seat] = counters{c.Accepted.Load(), sumOfPaths(&c.Received), sumOfPaths(&c.Sent)}
					gauges[seat] = max(c.Active.Load(), 0)
				}
			}
			r.sockets[id], held[id] = now, gauges
		}
	}
	if !withTargets {
		return r, held
	}
	for i := range views { // all seats that there ever were, so that a total does not fall
		if views[i] == nil {
			views[i] = b.view(i)
		}
	}
	r.connect = map[string]*latencies{"": new(latencies)}
	for _, p := range pools {
		all, own := r.connect[""], new(latencies)
		if len(pools) <= historyNames {
			r.connect[p.Name] = own
		}
		r.targets = append(r.targets, p.Targets...)
		for _, id := range p.Targets {
			for _, v := range views {
				c := cellsOf[TargetCells](v, targetTable, id.Index())
				if c == nil {
					continue
				}
				for i := range own {
					n := c.Connect.Buckets[i].Load()
					own[i] += n
					all[i] += n
				}
			}
		}
	}
	return r, held
}

func sumOfPaths(c *[maxPaths]Counter) (sum uint64) {
	for i := range c {
		sum += c[i].Load()
	}
	return sum
}

// tick is what happened from before to now.
func (before *reading) tick(now *reading, held map[ID]*[MaxAcceptors]int64, listeners []HistoryListener, seats []int) tick {
	t := tick{at: now.at, seats: slices.Clone(seats), parts: map[string]part{}, pools: map[string]string{}}
	seconds := float32(now.at.Sub(before.at).Seconds())
	perSecond := func(n uint64) float32 {
		if seconds <= 0 {
			return 0
		}
		return float32(n) / seconds
	}
	each := len(listeners) <= historyNames && len(listeners)*len(seats) <= historySockets
	all := part{sockets: make([]socket, len(seats))}
	if !each {
		for j := range all.sockets {
			all.sockets[j].queue = -1
		}
	}
	for _, l := range listeners {
		own := part{sockets: make([]socket, len(seats))}
		for j, seat := range seats {
			s := &own.sockets[j]
			s.queue = -1
			if each {
				if n, ok := l.Queue(seat); ok {
					s.queue = float32(n)
					all.sockets[j].queue += s.queue
				}
			}
			for _, id := range l.IDs {
				grown := before.grown(now, id, seat)
				s.accepts += perSecond(grown.accepted)
				s.held += float32(held[id][seat])
				own.received += perSecond(grown.received)
				own.sent += perSecond(grown.sent)
			}
			all.sockets[j].accepts += s.accepts
			all.sockets[j].held += s.held
		}
		all.received += own.received
		all.sent += own.sent
		if each {
			t.parts[l.Name], t.pools[l.Name] = own, l.Pool
		}
	}
	t.parts[""] = all
	if now.connect != nil && slices.Equal(before.targets, now.targets) {
		t.connect = map[string]*latencies{}
		for name, counts := range now.connect {
			if was := before.connect[name]; was != nil {
				t.connect[name] = counts.minus(was)
			}
		}
	}
	return t
}

// grown is how far the counters of a socket have come. One that begins anew (another
// acceptor has the seat) began at 0.
func (before *reading) grown(now *reading, id ID, seat int) counters {
	c := now.sockets[id][seat]
	was, there := before.sockets[id]
	if !there || before.lives[seat] != now.lives[seat] {
		return c
	}
	// A worker that writes at random may show what cannot be: it counts as none.
	return counters{c.accepted - min(was[seat].accepted, c.accepted), c.received - min(was[seat].received, c.received), c.sent - min(was[seat].sent, c.sent)}
}

func (l *latencies) minus(before *latencies) *latencies {
	d := new(latencies)
	for i := range l {
		d[i] = l[i] - min(before[i], l[i])
	}
	return d
}
