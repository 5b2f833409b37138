package proxy

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

// survey asks an acceptor and waits for the answer.
func survey(t *testing.T, a *Acceptor, q Survey) Surveyed {
	t.Helper()
	if q.Until == 0 {
		q.Until = a.clockNow() + int64(deadline)
	}
	done := make(chan Surveyed, 1)
	a.Survey(q, done)
	select {
	case s := <-done:
		return s
	case <-time.After(deadline):
		t.Fatal("no answer")
		return Surveyed{}
	}
}

// Each condition of a Filter leaves out what it should, and a session is described as it is.
func TestSurveyFilters(t *testing.T) {
	s := start(t)
	a := s.acceptors[0]
	quiet, _ := s.pair()
	talks, answers := s.pair()
	send(t, talks, "hello")
	expect(t, answers, "hello")
	send(t, answers, "world!!")
	expect(t, talks, "world!!")
	at := func(c net.Conn) netip.AddrPort { return netip.MustParseAddrPort(c.LocalAddr().String()) }
	waitFor(t, "both to be described", func() bool {
		got := survey(t, a, Survey{Limit: 10})
		if got.Matched != 2 || len(got.Held) != 2 {
			return false
		}
		// The client acknowledges what it was sent a moment later.
		i := slices.IndexFunc(got.Held, func(h Held) bool { return h.Client == at(talks) })
		return i >= 0 && got.Held[i].Received == 5 && got.Held[i].Sent == 7 && got.Held[i].Target == 0 && got.Held[i].State == HeldRelaying && got.Held[i].Age > 0
	})
	held := survey(t, a, Survey{Limit: 10}).Held
	id := held[slices.IndexFunc(held, func(h Held) bool { return h.Client == at(quiet) })].ID
	for name, c := range map[string]struct {
		f    Filter
		want int
	}{
		"all":             {Filter{}, 2},
		"id":              {Filter{ID: id}, 1},
		"id of before":    {Filter{ID: id - 1}, 0},
		"id of no slot":   {Filter{ID: id + 1<<50}, 0},
		"client":          {Filter{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, 2},
		"other client":    {Filter{Clients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}}, 0},
		"listener":        {Filter{Listeners: []uint32{0, 9}}, 2},
		"other listener":  {Filter{Listeners: []uint32{9, 200}}, 0},
		"target":          {Filter{Targets: []uint32{0}}, 2},
		"other target":    {Filter{Targets: []uint32{1, 65535}}, 0},
		"relaying":        {Filter{State: HeldRelaying}, 2},
		"waiting":         {Filter{State: HeldWaiting}, 0},
		"half-closed":     {Filter{State: HeldHalfClosed}, 0},
		"young":           {Filter{MaxAge: time.Hour}, 2},
		"old":             {Filter{MinAge: time.Hour}, 0},
		"idle":            {Filter{MinIdle: time.Hour}, 0},
		"large":           {Filter{MinBytes: 12}, 1},
		"larger":          {Filter{MinBytes: 13}, 0},
		"small":           {Filter{MaxBytes: 11}, 1},
		"large and quiet": {Filter{MinBytes: 12, ID: id}, 0},
	} {
		if got := survey(t, a, Survey{Filter: c.f}); got.Matched != c.want || len(got.Held) != 0 || got.Late {
			t.Errorf("%s: %+v, want %d", name, got, c.want)
		}
	}
	if got := survey(t, a, Survey{Limit: 1, Order: LargestFirst}); len(got.Held) != 1 || got.Held[0].Client != at(talks) {
		t.Errorf("the largest: %+v", got)
	}
	if got := survey(t, a, Survey{Limit: 1, Order: OldestFirst}); len(got.Held) != 1 || got.Held[0].Client != at(quiet) {
		t.Errorf("the oldest: %+v", got)
	}
	if got := survey(t, a, Survey{Limit: 1, Order: NewestFirst}); len(got.Held) != 1 || got.Held[0].Client != at(talks) {
		t.Errorf("the newest: %+v", got)
	}
	talks.CloseWrite()
	waitFor(t, "a half-closed one", func() bool { return survey(t, a, Survey{Filter: Filter{State: HeldHalfClosed}}).Matched == 1 })
	quiet.Close()
	talks.Close()
	answers.Close()
}

// Limit is exact, only those are ended that are meant, and both ends see a RST.
func TestSurveyEnds(t *testing.T) {
	s := start(t)
	a := s.acceptors[0]
	var all []*net.TCPConn
	for range 20 {
		c, _ := s.pair()
		all = append(all, c)
	}
	waitFor(t, "all to be relayed", func() bool { return survey(t, a, Survey{Filter: Filter{State: HeldRelaying}}).Matched == 20 })
	got := survey(t, a, Survey{Limit: 7, End: true, Reason: metrics.ReasonKilled})
	if got.Matched != 20 || got.Ended != 7 || a.web().Closed[metrics.ReasonKilled].Load() != 7 {
		t.Errorf("%+v", got)
	}
	for _, c := range all[:7] { // the oldest
		wantEnd(t, c, "", sawRST)
	}
	id := survey(t, a, Survey{Limit: 20}).Held[0].ID
	if got := survey(t, a, Survey{Filter: Filter{ID: id}, Limit: 1, End: true, Reason: metrics.ReasonKilled}); got.Ended != 1 {
		t.Errorf("%+v", got)
	}
	if got := survey(t, a, Survey{Filter: Filter{ID: id}, Limit: 1, End: true, Reason: metrics.ReasonKilled}); got.Ended != 0 {
		t.Errorf("again: %+v", got)
	}
	if got := survey(t, a, Survey{Limit: 1 << 30, End: true, Reason: metrics.ReasonBackendLeft}); got.Ended != 12 {
		t.Errorf("%+v", got)
	}
}

// A session that rests is moved by a FIN.
func TestRebalancedBySilentEnd(t *testing.T) {
	s := start(t)
	a := s.acceptors[0]
	rests, _ := s.pair()
	waitFor(t, "it to rest", func() bool { return survey(t, a, Survey{Filter: Filter{MinIdle: quietFor}}).Matched == 1 })
	busy, _ := s.pair()
	waitFor(t, "the other", func() bool { return survey(t, a, Survey{Filter: Filter{State: HeldRelaying}}).Matched == 2 })
	if got := survey(t, a, Survey{Limit: 2, Order: IdlestFirst, End: true, Reason: metrics.ReasonRebalanced}); got.Ended != 2 {
		t.Errorf("%+v", got)
	}
	wantEnd(t, rests, "", sawFIN)
	wantEnd(t, busy, "", sawRST)
}

// What is asked of a loop that hangs does not happen once its time is over.
func TestLateSurveyDoesNothing(t *testing.T) {
	s := start(t)
	a := s.acceptors[0]
	client, _ := s.pair()
	got := survey(t, a, Survey{Limit: 1, End: true, Reason: metrics.ReasonKilled, Until: a.clockNow() - 1})
	if !got.Late || got.Ended != 0 {
		t.Errorf("%+v", got)
	}
	client.Close()
}

// A survey of many sessions takes many turns and no session waits for it: the sessions
// looked at between two turns are bounded.
func TestSurveyComesInPieces(t *testing.T) {
	s := start(t, func(o *setup) {
		o.want = 0
		o.sys = func(c *sys.Calls) {
			c.PeerAddr = func(int) netip.AddrPort { // slow, so that the bound shows with a few sessions
				time.Sleep(50 * time.Microsecond)
				return netip.MustParseAddrPort("10.1.2.3:4")
			}
		}
	})
	a := s.acceptors[0]
	var all []*net.TCPConn
	for range 200 {
		c, _ := s.pair()
		all = append(all, c)
	}
	turns := a.cells.Turns.Load()
	got := survey(t, a, Survey{Filter: Filter{Clients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, Limit: 200})
	if n := a.cells.Turns.Load() - turns; got.Matched != 200 || len(got.Held) != 200 || n < 20 {
		t.Errorf("%d matched, %d described in %d turns", got.Matched, len(got.Held), n)
	}
	for _, c := range all {
		c.Close()
	}
}

// 100,000 sessions are looked at within a moment, and no turn takes long for it. They lie in
// the slab without connections of their own: all have that of a real one.
func TestSurveyOf100000(t *testing.T) {
	var polled time.Time
	var longest time.Duration
	s := start(t, func(o *setup) {
		o.want = 0
		o.sys = func(c *sys.Calls) {
			poll := c.Poll
			c.Poll = func(epoll int, evs []syscall.EpollEvent, ms int) (int, syscall.Errno) {
				if ms == 0 {
					longest = max(longest, time.Since(polled)) // between two looks at epoll
				}
				n, e := poll(epoll, evs, ms)
				polled = time.Now()
				return n, e
			}
		}
	})
	a := s.acceptors[0]
	client, _ := s.pair()
	waitFor(t, "it to be relayed", func() bool { return survey(t, a, Survey{}).Matched == 1 })
	const sessions = 100_000
	inLoop := func(f func()) {
		t.Helper()
		done := make(chan struct{})
		a.post(func() { f(); close(done) })
		select {
		case <-done:
		case <-time.After(deadline):
			t.Fatal("the loop does not come to it")
		}
	}
	var slots []int32
	inLoop(func() {
		real := *a.slab.at(0)
		for slot := range a.slab.slots() { // it is the only one
			if a.slab.at(slot).state == stateRelaying {
				real = *a.slab.at(slot)
			}
		}
		for i := range sessions {
			slot, made := a.slab.get()
			made.state, made.fd, made.opened, made.moved, made.picked = stateRelaying, real.fd, real.opened+int64(i), real.moved, true
			slots = append(slots, slot)
		}
		a.cells.Sessions.Add(sessions)
		longest = 0
	})
	for name, q := range map[string]Survey{
		"count":                {},
		"the 10,000 oldest":    {Limit: 10_000},
		"by client":            {Limit: 100, Filter: Filter{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
		"by client, 10,000":    {Limit: 10_000, Filter: Filter{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Order: NewestFirst},
		"the 100 largest":      {Limit: 100, Order: LargestFirst},
		"of no target, or one": {Filter: Filter{Targets: []uint32{0}}},
	} {
		before, begun := a.cells.Turns.Load(), time.Now()
		got := survey(t, a, q)
		if got.Matched != sessions+1 || len(got.Held) != q.Limit {
			t.Errorf("%s: %d matched, %d described", name, got.Matched, len(got.Held))
		}
		var took time.Duration
		inLoop(func() { took, longest = longest, 0 })
		t.Logf("%s: %v in %d turns, the longest %v", name, time.Since(begun), a.cells.Turns.Load()-before, took)
		if n := a.cells.Turns.Load() - before; n < 3 {
			t.Errorf("%s: in %d turns", name, n)
		}
	}
	inLoop(func() {
		for _, slot := range slots {
			a.slab.put(slot)
		}
		a.cells.Sessions.Add(-sessions)
	})
	client.Close()
}

// A session is shown as far as it has come.
func TestHeldState(t *testing.T) {
	for state, want := range map[state]HeldState{
		statePreamble: HeldWaiting, stateWaiting: HeldWaiting, stateDialing: HeldDialing, stateUpgrading: HeldDialing, stateRelaying: HeldRelaying,
	} {
		if got := heldState(&session{state: state}); got != want {
			t.Errorf("state %d is shown as %s, want %s", state, got, want)
		}
	}
}
