package access

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/metrics"
)

func newBoard(t testing.TB) *metrics.Board {
	t.Helper()
	b, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

const web = metrics.ID(7)

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// What one source is: the prefix, the listener, and nothing else.
func TestSourceIsAPrefix(t *testing.T) {
	s := NewSources(newBoard(t), 0)
	for _, c := range []struct {
		a, b string
		l    Limit
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", Limit{IPv4: 32, IPv6: 64}, true},
		{"10.0.0.1", "10.0.0.2", Limit{IPv4: 32, IPv6: 64}, false},
		{"10.0.0.1", "10.0.0.254", Limit{IPv4: 24, IPv6: 64}, true},
		{"10.0.0.1", "10.0.1.1", Limit{IPv4: 24, IPv6: 64}, false},
		{"10.0.0.1", "10.0.1.1", Limit{IPv4: 23, IPv6: 64}, true},
		{"10.0.0.1", "10.0.2.1", Limit{IPv4: 23, IPv6: 64}, false},
		{"fd00::1", "fd00::ffff:1:2:3", Limit{IPv4: 32, IPv6: 64}, true},
		{"fd00::1", "fd00:0:0:1::1", Limit{IPv4: 32, IPv6: 64}, false},
		{"fd00::1", "fd00:0:0:1::1", Limit{IPv4: 32, IPv6: 63}, true},
		{"fd00::1", "fd00::2", Limit{IPv4: 32, IPv6: 128}, false},
		{"10.0.0.1", "::10.0.0.1", Limit{IPv4: 32, IPv6: 128}, false},
	} {
		a, b := netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)
		if same := s.hash(web, a, &c.l) == s.hash(web, b, &c.l); same != c.same {
			t.Errorf("%s and %s with %+v are one: %t", a, b, c.l, same)
		}
		if s.hash(web, a, &c.l) == s.hash(web+1, a, &c.l) {
			t.Errorf("%s is the same source to another listener", a)
		}
	}
	if other := NewSources(newBoard(t), 0); other.hash(web, addr(1), &Limit{IPv4: 32}) == s.hash(web, addr(1), &Limit{IPv4: 32}) {
		t.Error("two services hash alike")
	}
}

// Many acceptors that let the same sources in and out never let in more than may be at a
// time, nor fewer once all have come to rest, and leave nothing behind.
func TestSessionsAreExact(t *testing.T) {
	const acceptors, limit, sources, rounds = 4, 5, 3, 20_000
	b := newBoard(t)
	l := Limit{IPv4: 32, IPv6: 64, Sessions: limit}
	var inside [sources]atomic.Int64
	var entered atomic.Int64
	var all sync.WaitGroup
	for seat := range acceptors {
		all.Go(func() {
			s := NewSources(b, seat)
			var mine [][2]uint32 // source, ref
			for i := range rounds {
				n := (i + seat) % sources
				switch ref, _, v := s.Enter(web, addr(n), &l, 1, 0); {
				case v == Entered && ref != 0:
					if now := inside[n].Add(1); now > limit {
						t.Errorf("%d sessions of one source", now)
						return
					}
					entered.Add(1)
					mine = append(mine, [2]uint32{uint32(n), ref})
				case v == Entered:
					t.Error("it is not counted")
				}
				if len(mine) > i%5 {
					inside[mine[0][0]].Add(-1)
					s.Leave(mine[0][1])
					mine = mine[1:]
				}
			}
			for _, m := range mine {
				inside[m[0]].Add(-1)
				s.Leave(m[1])
			}
		})
	}
	all.Wait()
	s := NewSources(b, 0)
	for n := range sources {
		for i := range limit + 1 {
			if _, _, v := s.Enter(web, addr(n), &l, 1, 0); (v == Entered) != (i < limit) {
				t.Errorf("source %d, session %d: %v", n, i+1, v)
			}
		}
	}
	t.Logf("%d of %d let in", entered.Load(), acceptors*rounds)
}

// Sources that all begin at the same moment on all acceptors get one place each.
func TestPlacesAreNotDoubled(t *testing.T) {
	const acceptors, limit = 4, 3
	b := newBoard(t)
	l := Limit{IPv4: 32, IPv6: 64, Sessions: limit}
	for round := range 500 {
		var entered atomic.Int64
		var all sync.WaitGroup
		start := make(chan struct{})
		for seat := range acceptors {
			s := NewSources(b, seat)
			all.Go(func() {
				<-start
				if _, _, v := s.Enter(web, addr(round), &l, 1, 0); v == Entered {
					entered.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if n := entered.Load(); n != limit {
			t.Fatalf("round %d: %d entered, want %d", round, n, limit)
		}
	}
}

// 60,000 sources with a session each: the one that exceeds its limit is found out, and
// all of them are once more when all have gone.
func TestFloodOfSources(t *testing.T) {
	const sources = 60_000
	b := newBoard(t)
	s := NewSources(b, 0)
	l := Limit{IPv4: 32, IPv6: 64, Sessions: 2}
	for round := range 2 {
		var refs []uint32
		for n := range sources {
			ref, _, v := s.Enter(web, addr(n), &l, 1, 0)
			if v != Entered {
				t.Fatalf("round %d: source %d is turned away", round, n)
			}
			refs = append(refs, ref)
		}
		tracked := 0
		for n := 0; n < sources; n += 1000 {
			if refs[n] == 0 {
				continue
			}
			tracked++
			ref, _, v := s.Enter(web, addr(n), &l, 1, 0)
			if _, _, over := s.Enter(web, addr(n), &l, 1, 0); v != Entered || over != TooMany {
				t.Errorf("source %d: its second is %v, its third %v", n, v, over)
			}
			s.Leave(ref)
		}
		if tracked < 59 {
			t.Errorf("%d of 60 are counted", tracked)
		}
		for _, ref := range refs {
			s.Leave(ref)
		}
	}
	if n := s.untracked.Load(); n > 60 { // 8 places a row: 2 rows of 32,768 have more, as a rule
		t.Errorf("%d sessions were not counted", n)
	}
	for i := range b.Sources() {
		if n := b.Sources()[i].Word.Load() & countMask; n != 0 {
			t.Fatalf("place %d still has %d sessions", i, n)
		}
	}
}

// Where there is no room, sources without sessions lose their rate first, and it is counted;
// without any room a session is let in.
func TestEviction(t *testing.T) {
	b := newBoard(t)
	s := NewSources(b, 0)
	l := Limit{IPv4: 32, IPv6: 64, Rate: Rate{time.Second, 1}}
	var row []int // sources of one row
	first := s.hash(web, addr(0), &l) % rows
	for n := 0; len(row) < places+2; n++ {
		if s.hash(web, addr(n), &l)%rows == first {
			row = append(row, n)
		}
	}
	now := int64(time.Hour)
	for i, n := range row[:places] {
		ref, _, v := s.Enter(web, addr(n), &l, now+int64(i), 0)
		if v != Entered || ref == 0 {
			t.Fatal("not let in")
		}
		s.Leave(ref)
	}
	ref, _, _ := s.Enter(web, addr(row[places]), &l, now+100, 0)
	if ref == 0 || s.evicted.Load() != 1 {
		t.Errorf("%d evictions, want 1", s.evicted.Load())
	}
	if _, _, v := s.Enter(web, addr(row[1]), &l, now+200, 0); v != TooQuickly {
		t.Error("another than the first was evicted")
	}
	for _, n := range row[1:places] { // all come back after their time, and stay
		if ref, _, _ := s.Enter(web, addr(n), &l, now+int64(time.Minute), 0); ref == 0 {
			t.Error("a source is not counted")
		}
	}
	if ref, _, v := s.Enter(web, addr(row[places+1]), &l, now+int64(time.Minute), 0); ref != 0 || v != Entered || s.untracked.Load() != 1 {
		t.Errorf("a full row: %d, %v, %d untracked", ref, v, s.untracked.Load())
	}
}

// What a dead acceptor held is given back, and no other's.
func TestSourcesOfTheDead(t *testing.T) {
	b := newBoard(t)
	l := Limit{IPv4: 32, IPv6: 64, Sessions: 3}
	dead, alive := NewSources(b, 1), NewSources(b, 2)
	enter := func(s *Sources) Verdict {
		_, _, v := s.Enter(web, addr(1), &l, 1, 0)
		return v
	}
	expect := func(s *Sources, want ...Verdict) {
		t.Helper()
		for i, v := range want {
			if got := enter(s); got != v {
				t.Fatalf("entry %d: %v, want %v", i, got, v)
			}
		}
	}
	expect(&dead, Entered, Entered)
	expect(&alive, Entered, TooMany)
	b.GiveBack(1)
	expect(&alive, Entered, Entered, TooMany) // what the dead held is given back, and no more
}

// A rate lets its burst in at once and then one for each Every, whichever acceptor asks;
// one that has to wait learns how long.
func TestSpend(t *testing.T) {
	const every = 100 * time.Millisecond
	var next metrics.Gauge
	now := int64(time.Hour)
	in := func(at, patience time.Duration) (time.Duration, bool) {
		return Spend(&next, Rate{every, 3}, now+int64(at), patience)
	}
	for i, want := range []bool{true, true, true, false} {
		if _, ok := in(0, 0); ok != want {
			t.Errorf("number %d at once: %t", i+1, ok)
		}
	}
	if _, ok := in(every-1, 0); ok {
		t.Error("too early")
	}
	if _, ok := in(every, 0); !ok {
		t.Error("on time, and turned away")
	}
	for i := range 3 {
		if wait, ok := in(every, time.Second); !ok || wait != time.Duration(i+1)*every {
			t.Errorf("wait %d is %v, %t", i, wait, ok)
		}
	}
	if _, ok := in(every, 3*every); ok {
		t.Error("it waits for longer than it may")
	}
	if wait, ok := in(time.Minute, 0); !ok || wait != 0 {
		t.Error("after a rest it is as at first")
	}
	if wait, ok := Spend(&next, Rate{}, now, 0); wait != 0 || !ok {
		t.Error("no rate is a bound")
	}
}

func TestEnterAllocatesNothing(t *testing.T) {
	s := NewSources(newBoard(t), 0)
	l := Limit{IPv4: 32, IPv6: 64, Sessions: 2, Rate: Rate{time.Nanosecond, 1}}
	now := int64(1)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		ref, _, _ := s.Enter(web, addr(1), &l, now, 0)
		s.Leave(ref)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnter(b *testing.B) {
	for _, n := range []int{1, 50_000} {
		b.Run(map[int]string{1: "one", 50_000: "50000"}[n], func(b *testing.B) {
			s := NewSources(newBoard(b), 0)
			l := Limit{IPv4: 32, IPv6: 64, Sessions: 1000, Rate: Rate{time.Nanosecond, 1000}}
			i := 0
			for b.Loop() {
				i++
				ref, _, _ := s.Enter(web, addr(i%n), &l, int64(i)*1000, 0)
				s.Leave(ref)
			}
		})
	}
}
