package moving

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		loads []Load
		want  map[uint32]int64 // over, by index
	}{
		"even":                   {[]Load{{Index: 1, Sessions: 10, Weight: 1, Gives: true}, {Index: 2, Sessions: 10, Weight: 1, Gives: true}}, nil},
		"one joins":              {[]Load{{Index: 1, Sessions: 10, Weight: 1, Gives: true}, {Index: 2, Sessions: 10, Weight: 1, Gives: true}, {Index: 3, Weight: 1, Gives: true}}, map[uint32]int64{1: 3, 2: 3}},
		"weights":                {[]Load{{Index: 1, Sessions: 30, Weight: 2, Gives: true}, {Index: 2, Weight: 1, Gives: true}}, map[uint32]int64{1: 10}},
		"one drains":             {[]Load{{Index: 1, Sessions: 7, Gives: true}, {Index: 2, Sessions: 7, Weight: 1, Gives: true}}, map[uint32]int64{1: 7}},
		"one is down":            {[]Load{{Index: 1, Sessions: 7}, {Index: 2, Sessions: 7, Weight: 1, Gives: true}}, nil},
		"all drain":              {[]Load{{Index: 1, Sessions: 7, Gives: true}, {Index: 2, Sessions: 7, Gives: true}}, nil},
		"a primary is back":      {[]Load{{Index: 1, Weight: 1, Gives: true}, {Index: 2, Sessions: 9, Weight: 1, Backup: true, Gives: true}}, map[uint32]int64{2: 9}},
		"only backups":           {[]Load{{Index: 1, Sessions: 1}, {Index: 2, Sessions: 9, Weight: 1, Backup: true, Gives: true}, {Index: 3, Weight: 2, Backup: true, Gives: true}}, map[uint32]int64{2: 6}},
		"nobody there":           {nil, nil},
		"within one of its fair": {[]Load{{Index: 1, Sessions: 4, Weight: 1, Gives: true}, {Index: 2, Sessions: 3, Weight: 1, Gives: true}}, nil},
	} {
		got := map[uint32]int64{}
		for _, e := range Spread(c.loads) {
			got[e.Index] = e.Over
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		for i, n := range c.want {
			if got[i] != n {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

// What Spread says never leaves a target below its share, and there is room for all of it
// elsewhere.
func TestSpreadHasRoomForAll(t *testing.T) {
	for range 2000 {
		var loads []Load
		for i := range 1 + rand.IntN(8) {
			loads = append(loads, Load{Index: uint32(i), Sessions: rand.Int64N(1000), Weight: rand.Int64N(4) * rand.Int64N(300), Gives: rand.IntN(4) > 0, Backup: rand.IntN(4) == 0})
		}
		over := Spread(loads)
		room := int64(0)
		for _, l := range loads {
			if i := slices.IndexFunc(over, func(e Excess) bool { return e.Index == l.Index }); i >= 0 {
				if e := over[i]; !l.Gives || e.Over <= 0 || e.Sessions-e.Over != e.Fair {
					t.Fatalf("%+v of %+v", e, loads)
				}
			} else if l.Weight > 0 {
				room++
			}
		}
		if Total(over) > 0 && room == 0 && !slices.ContainsFunc(over, func(e Excess) bool { return e.Fair > 0 }) {
			t.Fatalf("nowhere to go for %+v of %+v", over, loads)
		}
	}
}

// world is a number of sessions at two acceptors.
type world struct {
	mu    sync.Mutex
	idle  map[int][]time.Duration // by acceptor
	asked int
	ended []time.Duration // the idle times of those that ended
}

func (w *world) survey(asks map[int]proxy.Survey) (map[int]proxy.Surveyed, []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	answers := map[int]proxy.Surveyed{}
	for seat, q := range asks {
		slices.SortFunc(w.idle[seat], func(a, b time.Duration) int { return int(b - a) })
		a := proxy.Surveyed{Matched: len(w.idle[seat])}
		n := min(q.Limit, len(w.idle[seat]))
		if q.End {
			a.Ended = n
			w.ended = append(w.ended, w.idle[seat][:n]...)
			w.idle[seat] = w.idle[seat][n:]
		} else {
			for i, d := range w.idle[seat][:n] {
				a.Held = append(a.Held, proxy.Held{ID: journal.NewID(seat, int32(i), 1), Idle: d})
			}
		}
		answers[seat] = a
	}
	return answers, nil
}

// A task keeps to its pace, ends the idlest of all acceptors first, and stops when Next says so.
func TestTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{idle: map[int][]time.Duration{}}
		for i := range 100 {
			w.idle[i%3%2] = append(w.idle[i%3%2], time.Duration(1+i)*time.Second)
		}
		m := New(Options{
			Log: slog.New(slog.DiscardHandler), Survey: w.survey, Seats: func() []int { return []int{0, 1} },
			Until: func(d time.Duration) int64 { return int64(d) },
		})
		defer m.Close()
		left := 40
		task := Task{
			Name: "a", Reason: metrics.ReasonRebalanced, Order: proxy.IdlestFirst, PerSecond: 10, Jitter: 0.3,
			Next: func() []Portion {
				if left <= 0 {
					return nil
				}
				return []Portion{{Most: left}}
			},
			Ended: func(n int) { left -= n },
		}
		if !m.Start(task) || m.Start(task) || !m.Runs("a") {
			t.Error("one of a name runs at a time")
		}
		begun := time.Now()
		for second := 1; m.Runs("a"); second++ {
			time.Sleep(time.Second)
			synctest.Wait()
			w.mu.Lock()
			if n := len(w.ended); n > 13*second+4 || m.Runs("a") && n < 7*second-2 {
				t.Errorf("%d ended after %d s", n, second)
			}
			w.mu.Unlock()
		}
		if took := time.Since(begun); took > 7*time.Second || len(w.ended) != 40 {
			t.Errorf("%d ended in %v", len(w.ended), took)
		}
		for i, d := range w.ended {
			if d <= 60*time.Second {
				t.Errorf("the %d. that ended was idle for %v, and 40 others longer than a minute", i, d)
			}
		}
	})
}

func TestCloseEndsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{idle: map[int][]time.Duration{0: make([]time.Duration, 1000)}}
		m := New(Options{Log: slog.New(slog.DiscardHandler), Survey: w.survey, Seats: func() []int { return []int{0} }, Until: func(time.Duration) int64 { return 0 }})
		task := Task{Name: "a", PerSecond: 1, Next: func() []Portion { return []Portion{{Most: 1000}} }}
		m.Start(task)
		time.Sleep(3 * time.Second)
		m.Close()
		if m.Start(task) || m.Runs("a") {
			t.Error("it goes on")
		}
		if n := len(w.ended); n < 2 || n > 5 {
			t.Errorf("%d ended", n)
		}
	})
}
