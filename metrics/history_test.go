package metrics

import (
	"testing"
	"time"
)

// history feeds a History with what a board holds, each 5 s.
type history struct {
	History
	b         *Board
	listeners []HistoryListener
	pools     []HistoryPool
	seats     []int
	now       time.Time
}

func (h *history) look() {
	h.Sample(h.b, h.listeners, h.pools, h.seats, h.now)
	h.now = h.now.Add(5 * time.Second)
}

func newHistory(t *testing.T) *history {
	b := newBoard(t)
	b.OpenListener(webID)
	b.OpenListener(quietID)
	b.OpenTarget(db1ID)
	queue := func(seat int) (int, bool) { return 3, seat == 0 }
	return &history{
		b: b, seats: []int{0, 2}, now: fixtureTime,
		listeners: []HistoryListener{{"web", "db", []ID{webID}, queue}, {"quiet", "none", []ID{quietID}, queue}},
		pools:     []HistoryPool{{"db", []ID{db1ID}}, {"none", nil}},
	}
}

func TestHistory(t *testing.T) {
	h := newHistory(t)
	web := h.b.Listener(2, webID)
	web.Accepted.Add(1000) // before the first look
	h.look()
	if c := h.Since("", 0); len(c.Ticks) != 0 || c.Last != 0 {
		t.Fatalf("after the first look: %+v", c)
	}
	web.Accepted.Add(50)
	web.Active.Add(7)
	web.Received[PathCopy].Add(500)
	web.Received[PathSplice].Add(500)
	web.Sent[PathSplice].Add(5000)
	for range 100 {
		h.b.Target(2, db1ID).Connect.Observe(200 * time.Microsecond)
	}
	h.look()
	for _, name := range []string{"", "web"} {
		c := h.Since(name, 0)
		if len(c.Ticks) != 1 || c.Last != 1 || c.Keeps != HistoryTicks {
			t.Fatalf("%q: %+v", name, c)
		}
		k := c.Ticks[0]
		if k.Received != 200 || k.Sent != 1000 || k.Time != fixtureTime.Add(5*time.Second).UnixMilli() {
			t.Errorf("%q: %+v", name, k)
		}
		if !near(k.P50, .000175, 1e-9) || !near(k.P99, .0002485, 1e-9) { // between .0001 and .00025
			t.Errorf("%q: connect %v, %v", name, k.P50, k.P99)
		}
		if s := k.Sockets; len(s) != 2 || s[1].Acceptor != 2 || s[1].Accepts != 10 || s[1].Held != 7 || s[1].Queue != nil && name == "web" || s[0].Accepts != 0 {
			t.Errorf("%q: %+v", name, s)
		} else if want := map[string]int{"": 6, "web": 3}[name]; s[0].Queue == nil || *s[0].Queue != want {
			t.Errorf("%q: queue %v, want %d", name, s[0].Queue, want)
		}
	}
	if c := h.Since("quiet", 0); len(c.Ticks) != 1 || c.Ticks[0].P50 != 0 || c.Ticks[0].Sockets[1].Held != 0 {
		t.Errorf("quiet: %+v", c)
	}
	if c := h.Since("no such", 0); len(c.Ticks) != 0 {
		t.Errorf("no such listener: %+v", c)
	}
	if c := h.Since("", 1); len(c.Ticks) != 0 || c.Last != 1 {
		t.Errorf("nothing new: %+v", c)
	}
}

// It keeps a quarter of an hour and no more. A reader that asks with the number of
// another life gets all of it.
func TestHistoryForgets(t *testing.T) {
	h := newHistory(t)
	for range 3*HistoryTicks + 1 {
		h.look()
	}
	c := h.Since("", 0)
	if len(c.Ticks) != HistoryTicks || c.Last != 3*HistoryTicks {
		t.Fatalf("%d ticks, last %d", len(c.Ticks), c.Last)
	}
	if span := c.Ticks[len(c.Ticks)-1].Time - c.Ticks[0].Time; span != (15*time.Minute - 5*time.Second).Milliseconds() {
		t.Errorf("they span %d ms", span)
	}
	if n := len(h.Since("", c.Last-2).Ticks); n != 2 {
		t.Errorf("%d new ticks, want 2", n)
	}
	if n := len(h.Since("", c.Last+1).Ticks); n != HistoryTicks {
		t.Errorf("%d ticks for who saw another life, want all", n)
	}
}

// A seat that begins anew, a listener that comes or is replaced, a target that goes:
// nothing falls, and nothing is counted twice.
func TestHistoryThroughChanges(t *testing.T) {
	h := newHistory(t)
	h.b.Listener(2, webID).Accepted.Add(100)
	h.b.Target(2, db1ID).Connect.Observe(time.Millisecond)
	h.look()
	h.b.Retire(2)
	h.b.Listener(2, webID).Accepted.Add(5)
	h.b.OpenListener(oldID)
	h.listeners[0].IDs = []ID{webID, oldID}
	h.b.Listener(0, oldID).Accepted.Add(10)
	h.look()
	k := h.Since("web", 0).Ticks[0]
	if k.Sockets[0].Accepts != 2 || k.Sockets[1].Accepts != 1 {
		t.Errorf("%+v, want 2 and 1 a second", k.Sockets)
	}
	if k.P50 != 0 {
		t.Errorf("a connect is counted again: %v", k.P50)
	}
	h.b.Target(0, db1ID).Connect.Observe(time.Millisecond)
	h.pools[0].Targets = append(h.pools[0].Targets, db2ID)
	h.look()
	if k := h.Since("web", 1).Ticks[0]; k.P50 != 0 {
		t.Errorf("other targets were compared: %v", k.P50)
	}
}

// What one look costs is bounded: of many targets they are read at every few looks, of
// many listeners the sum is kept.
func TestHistoryOfMany(t *testing.T) {
	h := newHistory(t)
	h.pools[0].Targets = nil
	for i := range uint32(historyTargets) { // two seats: every third look
		h.pools[0].Targets = append(h.pools[0].Targets, NewID(i, 0))
	}
	for range 7 {
		h.b.Target(0, db1ID).Connect.Observe(time.Millisecond)
		h.look()
	}
	var with []int
	for i, k := range h.Since("web", 0).Ticks {
		if k.P50 != 0 {
			with = append(with, i)
		}
	}
	if len(with) != 2 || with[0] != 2 || with[1] != 5 {
		t.Errorf("targets were read in ticks %v, want 2 and 5", with)
	}
	for len(h.listeners) <= historyNames {
		h.listeners = append(h.listeners, h.listeners[1])
	}
	h.b.Listener(0, webID).Accepted.Add(50)
	h.look()
	c := h.Since("", 6)
	if len(c.Ticks) != 1 || c.Ticks[0].Sockets[0].Accepts != 10 || c.Ticks[0].Sockets[0].Queue != nil {
		t.Errorf("all: %+v", c.Ticks)
	}
	if c := h.Since("web", 6); len(c.Ticks) != 0 {
		t.Errorf("one of many: %+v", c.Ticks)
	}
}

func BenchmarkHistory(b *testing.B) {
	board, err := NewBoard()
	check(b, err)
	defer board.Close()
	h := history{b: board, now: fixtureTime}
	for i := range 4 {
		h.seats = append(h.seats, i)
		board.Listener(i, webID).Accepted.Add(1)
		board.Target(i, db1ID).Sessions.Add(1)
	}
	h.listeners = []HistoryListener{{"web", "db", []ID{webID}, func(int) (int, bool) { return 0, true }}}
	h.pools = []HistoryPool{{"db", []ID{db1ID}}}
	for b.Loop() {
		h.look()
	}
}
