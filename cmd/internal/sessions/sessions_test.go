package sessions

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/moving"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// scene is a Desk before two acceptors that hold sessions.
type scene struct {
	*Desk
	records *records
	hangs   map[int]bool // acceptors that give no answer

	mu   sync.Mutex
	held []proxy.Held
	ask  func(q proxy.Survey) // called with each Survey; may be nil
}

func newScene(t *testing.T) *scene {
	s := &scene{records: &records{since: map[int]time.Time{}, died: map[int]time.Time{}}, hangs: map[int]bool{}}
	seats := func() []int { return []int{0, 1} }
	mover := moving.New(moving.Options{Log: slog.New(slog.DiscardHandler), Survey: s.survey, Seats: seats, Until: func(time.Duration) int64 { return 0 }})
	t.Cleanup(mover.Close)
	names := &accesslog.Names{}
	names.PutListener(metrics.NewID(0, 1), accesslog.Listener{Name: "web", Pool: "app"})
	names.PutListener(metrics.NewID(1, 1), accesslog.Listener{Name: "db", Pool: "data"})
	names.PutTarget(metrics.NewID(0, 1), accesslog.Target{Pool: "app", Backend: "a", Addr: "10.1.0.1:80"})
	names.PutTarget(metrics.NewID(1, 1), accesslog.Target{Pool: "app", Backend: "b", Addr: "10.1.0.2:80"})
	names.PutTarget(metrics.NewID(2, 1), accesslog.Target{Pool: "vip", Backend: "a", Addr: "10.1.0.1:80"})
	s.Desk = &Desk{Mover: mover, Names: names, Records: s.records, Recording: func() bool { return false }, Seats: seats}
	return s
}

// survey is what acceptors do: of the filter it knows the ID, clients and targets.
func (s *scene) survey(asks map[int]proxy.Survey) (answers map[int]proxy.Surveyed, silent []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answers = map[int]proxy.Surveyed{}
	for seat, q := range asks {
		if s.hangs[seat] {
			silent = append(silent, seat)
			continue
		}
		if s.ask != nil {
			s.ask(q)
		}
		a := proxy.Surveyed{}
		s.held = slices.DeleteFunc(s.held, func(h proxy.Held) bool {
			if h.ID.Seat() != seat {
				return false
			}
			a.Seen++
			if q.Filter.ID != 0 && h.ID != q.Filter.ID || len(q.Filter.Targets) > 0 && !slices.Contains(q.Filter.Targets, uint32(h.Target)) ||
				len(q.Filter.Clients) > 0 && !slices.ContainsFunc(q.Filter.Clients, func(p netip.Prefix) bool { return p.Contains(h.Client.Addr()) }) {
				return false
			}
			a.Matched++
			if q.End && a.Ended < q.Limit {
				a.Ended++
				return true
			}
			if len(a.Held) < q.Limit {
				a.Held = append(a.Held, h)
			}
			return false
		})
		answers[seat] = a
	}
	slices.Sort(silent)
	return answers, silent
}

func (s *scene) hold(held ...proxy.Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, held...)
}

func id(seat int, use uint32) journal.ID { return journal.NewID(seat, 0, use) }

// held is a session of a seat with this use, which is its age in seconds, too.
func held(seat int, use uint32, target int32) proxy.Held {
	return proxy.Held{
		ID: id(seat, use), Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(use)}), 1000), Target: target,
		State: proxy.HeldRelaying, Age: time.Duration(use) * time.Second, Received: 1, Sent: 2,
	}
}

func TestFind(t *testing.T) {
	s := newScene(t)
	s.hold(held(0, 1, 0), held(1, 2, 1), held(0, 3, -1), proxy.Held{ID: id(1, 4), Listener: 1, Target: -1, State: proxy.HeldWaiting, Age: 4 * time.Second})
	found := func(q admin.SessionQuery, o admin.SessionOrder) admin.SessionList {
		t.Helper()
		l, err := s.Find(q, o)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	all := found(admin.SessionQuery{}, admin.SessionOrder{})
	want := []admin.Session{
		{ID: "1-0-4", Listener: "db", Pool: "data", State: "waiting", AgeSeconds: 4},
		{ID: "0-0-3", Client: "10.0.0.3:1000", Listener: "web", Pool: "app", State: "relaying", AgeSeconds: 3, Received: 1, Sent: 2},
		{ID: "1-0-2", Client: "10.0.0.2:1000", Listener: "web", Pool: "app", Backend: "b", Address: "10.1.0.2:80", State: "relaying", AgeSeconds: 2, Received: 1, Sent: 2},
		{ID: "0-0-1", Client: "10.0.0.1:1000", Listener: "web", Pool: "app", Backend: "a", Address: "10.1.0.1:80", State: "relaying", AgeSeconds: 1, Received: 1, Sent: 2},
	}
	if !slices.Equal(all.Sessions, want) || all.Matched != 4 || all.Open != 4 || all.Silent == nil {
		t.Errorf("%+v", all)
	}
	if l := found(admin.SessionQuery{To: "b"}, admin.SessionOrder{Sort: "newest"}); len(l.Sessions) != 1 || l.Matched != 1 || l.Open != 4 {
		t.Errorf("%+v", l)
	}
	if l := found(admin.SessionQuery{}, admin.SessionOrder{Sort: "newest", Limit: 1}); len(l.Sessions) != 1 || l.Sessions[0].ID != "0-0-1" || l.Matched != 4 {
		t.Errorf("%+v", l)
	}
	s.hangs[1] = true
	if l := found(admin.SessionQuery{}, admin.SessionOrder{}); len(l.Sessions) != 2 || !slices.Equal(l.Silent, []int{1}) {
		t.Errorf("%+v", l)
	}
}

// What nothing has the name of is a fault: an empty list would mean all.
func TestFilter(t *testing.T) {
	s := newScene(t)
	for _, c := range []struct {
		q    admin.SessionQuery
		want proxy.Filter
		err  string
	}{
		{admin.SessionQuery{}, proxy.Filter{}, ""},
		{admin.SessionQuery{ID: "1-0-2", State: "dialing", MinAge: 1, MaxAge: 2, MinIdle: 3, MinBytes: 4, MaxBytes: 5}, proxy.Filter{ID: id(1, 2), State: proxy.HeldDialing, MinAge: 1, MaxAge: 2, MinIdle: 3, MinBytes: 4, MaxBytes: 5}, ""},
		{admin.SessionQuery{Listener: "db"}, proxy.Filter{Listeners: []uint32{1}}, ""},
		{admin.SessionQuery{To: "a"}, proxy.Filter{Targets: []uint32{0, 2}}, ""},
		{admin.SessionQuery{To: "10.1.0.1:80", Pool: "vip"}, proxy.Filter{Targets: []uint32{2}}, ""},
		{admin.SessionQuery{Pool: "app"}, proxy.Filter{Targets: []uint32{0, 1}}, ""},
		{admin.SessionQuery{ID: "x"}, proxy.Filter{}, `"x" is no session`},
		{admin.SessionQuery{Listener: "no"}, proxy.Filter{}, `there is no listener "no"`},
		{admin.SessionQuery{To: "z"}, proxy.Filter{}, `there is no such backend: "z"`},
		{admin.SessionQuery{Pool: "no"}, proxy.Filter{}, `there is no such backend: none in pool "no"`},
		{admin.SessionQuery{To: "b", Pool: "vip"}, proxy.Filter{}, `there is no such backend: "b" in pool "vip"`},
	} {
		f, err := s.filter(c.q)
		if c.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("%+v: %v", c.q, err)
			}
			continue
		}
		if err != nil || f.ID != c.want.ID || f.State != c.want.State || !slices.Equal(f.Listeners, c.want.Listeners) || !slices.Equal(f.Targets, c.want.Targets) ||
			f.MinAge != c.want.MinAge || f.MaxAge != c.want.MaxAge || f.MinIdle != c.want.MinIdle || f.MinBytes != c.want.MinBytes || f.MaxBytes != c.want.MaxBytes {
			t.Errorf("%+v: %+v, %v", c.q, f, err)
		}
	}
}

func TestKill(t *testing.T) {
	const late = "; no whole answer in time from acceptor 1: of its sessions not all is known"
	to := admin.SessionQuery{To: "b"} // three of the five
	for name, c := range map[string]struct {
		order admin.KillOrder
		hangs bool
		ok    bool
		text  string
		left  int
	}{
		"how many":     {admin.KillOrder{SessionQuery: to}, false, false, "3 sessions would end; say how many may at most: -max 3", 5},
		"too many":     {admin.KillOrder{SessionQuery: to, Max: 2}, false, false, "nothing ended: 3 match, which is more than -max 2", 5},
		"all":          {admin.KillOrder{SessionQuery: to, Max: 3}, false, true, "3 sessions ended", 2},
		"one":          {admin.KillOrder{SessionQuery: admin.SessionQuery{ID: "1-0-2"}, Max: 1}, false, true, "1 session ended", 4},
		"none":         {admin.KillOrder{SessionQuery: admin.SessionQuery{ID: "1-0-9"}, Max: 1}, false, false, "no session 1-0-9 is open", 5},
		"no such":      {admin.KillOrder{SessionQuery: admin.SessionQuery{To: "z"}, Max: 1}, false, false, `there is no such backend: "z"`, 5},
		"who answers":  {admin.KillOrder{SessionQuery: to, Max: 9}, true, false, "2 sessions ended" + late, 3},
		"who counts":   {admin.KillOrder{SessionQuery: to}, true, false, "2 sessions would end; say how many may at most: -max 2" + late, 5},
		"one who asks": {admin.KillOrder{SessionQuery: admin.SessionQuery{ID: "1-0-2"}, Max: 1}, true, false, "0 sessions ended" + late, 5},
	} {
		s := newScene(t)
		s.hangs[1] = c.hangs
		s.hold(held(0, 1, 0), held(1, 2, 1), held(0, 3, 1), held(0, 4, 1), held(1, 5, 0))
		s.ask = func(q proxy.Survey) {
			if q.End && q.Reason != metrics.ReasonKilled {
				t.Errorf("%s: they end as %v", name, q.Reason)
			}
		}
		ok, text := s.Kill(c.order)
		if ok != c.ok || text != c.text || len(s.held) != c.left {
			t.Errorf("%s: %v, %q, %d are left", name, ok, text, len(s.held))
		}
	}
}

// At a pace those end that were counted, and no more; only one such kill runs at a time.
func TestKillSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		for use := range uint32(30) {
			s.hold(held(int(use%2), use+1, 0))
		}
		order := admin.KillOrder{SessionQuery: admin.SessionQuery{To: "a"}, Max: 100, PerSecond: 10}
		begun := time.Now()
		if ok, text := s.Kill(order); !ok || text != "30 sessions end, 10 a second" {
			t.Fatalf("%v, %q", ok, text)
		}
		if ok, text := s.Kill(order); ok || text != "nothing ended: an earlier kill is under way" {
			t.Errorf("%v, %q", ok, text)
		}
		s.hold(held(0, 99, 0)) // it came later
		for s.Mover.Runs("kill") {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); len(s.held) != 1 || took < 2*time.Second || took > 4*time.Second {
			t.Errorf("%d are left after %s", len(s.held), took)
		}
	})
}

// One that ends nothing gives up.
func TestKillSlowlyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.hold(held(0, 1, 0), held(1, 2, 0))
		if ok, text := s.Kill(admin.KillOrder{Max: 2, PerSecond: 1}); !ok {
			t.Fatal(text)
		}
		s.mu.Lock()
		s.hangs[0], s.hangs[1] = true, true
		s.mu.Unlock()
		begun := time.Now()
		for s.Mover.Runs("kill") {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took < moving.GiveUpAfter || took > 2*moving.GiveUpAfter {
			t.Errorf("it took %s", took)
		}
	})
}
