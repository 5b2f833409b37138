package metrics

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mergedTopology has the backend of two addresses merged, one that leaves and one that has
// left for good.
func mergedTopology(departed *Departed) Topology {
	top := fixtureTopology()
	be := &top.Pools[0].Backends[0]
	be.Merged, be.Left, be.Departed = true, []ID{db3ID}, departed
	be.LeftFailures[CheckRefused] = 5
	return top
}

// What is merged has the families that its addresses have, once, with their sums.
func TestMerged(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	goneID := NewID(9, 1)
	b.OpenTarget(goneID)
	for i, id := range []ID{db1ID, db2ID, db3ID, goneID} {
		for seat := range 2 {
			c := b.Target(seat, id)
			fill(c, uint64(i+1))
			c.Active.Store(int64(i + 1))
		}
	}
	b.Failing()[db1ID.Index()].Swap(NewFailure(time.Hour, 1, 0, ConnectRefused))
	b.Target(0, goneID).Active.Store(0)
	b.Target(1, goneID).Active.Store(0)
	var departed Departed
	b.Depart(goneID, &departed)
	top := mergedTopology(&departed)
	expires := fixtureTime.Add(time.Hour)
	top.Health[db2ID] = Health{State: TargetUp, Check: &Check{Up: true, Last: fixtureTime, Seconds: 0.5, Failures: CheckFailures(&[NumCheckFailures]uint64{}), Certificate: expires}}
	text := scrape(t, TakeSnapshot(b, &Window{}, top, fixtureTime))
	for _, want := range []string{
		`sluice_backend_connections_total{address="*",backend="db:80",pool="web"} 20`, // 2 x (1 + 2 + 3 + 4)
		`sluice_backend_received_bytes_total{address="*",backend="db:80",pool="web"} 20`,
		`sluice_backend_connect_errors_total{address="*",backend="db:80",pool="web",reason="refused"} 20`,
		`sluice_backend_active_connections{address="*",backend="db:80",pool="web"} 12`, // 2 x (1 + 2 + 3)
		`sluice_backend_addresses{backend="db:80",pool="web"} 2`,
		`sluice_backend_failing{address="*",backend="db:80",pool="web"} 1`,
		`sluice_backend_up{address="*",backend="db:80",pool="web"} 1`,
		`sluice_backend_state_info{address="*",backend="db:80",pool="web",state="up"} 1`,
		`sluice_backend_state_info{address="*",backend="db:80",pool="web",state="down"} 1`,
		`sluice_backend_check_failures_total{address="*",backend="db:80",pool="web",reason="refused"} 8`, // 3 + 5
		`sluice_backend_check_duration_seconds{address="*",backend="db:80",pool="web"} 0.5`,
	} {
		if !bytes.Contains(text, []byte(want+"\n")) {
			t.Errorf("not there: %s", want)
		}
	}
	if bytes.Contains(text, []byte(`address="10.0.0.`)) {
		t.Error("an address has a series of its own")
	}

	// Each family of an address is there.
	families := func(text []byte) map[string]bool {
		all := map[string]bool{}
		for one := range series(text) {
			if strings.Contains(one, "address=") {
				all[one[:strings.IndexByte(one, '{')]] = true
			}
		}
		return all
	}
	top.Pools[0].Backends[0].Merged = false
	own := families(scrape(t, TakeSnapshot(b, &Window{}, top, fixtureTime)))
	merged := families(text)
	for f := range own {
		if !merged[f] {
			t.Errorf("%s is not merged", f)
		}
	}
	if len(merged) != len(own) {
		t.Errorf("%d families merged, %d of addresses", len(merged), len(own))
	}
	bounded := strings.Count(string(text), `address="*"`)
	if bounded > 50 {
		t.Errorf("%d series of one backend", bounded)
	}
}

// A Topology may be out of date: what a number stands for by now is not its count.
func TestMergedOfAnotherTime(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	var departed Departed
	top := mergedTopology(&departed)
	b.Target(0, db3ID).Sessions.Add(3)
	b.Depart(db3ID, &departed)
	other := NewID(db3ID.Index(), db3ID.Generation()+1) // of another backend
	b.OpenTarget(other)
	b.Target(0, other).Sessions.Add(100)
	if got := TakeSnapshot(b, &Window{}, top, fixtureTime).Pools[0].Backends[0].Merged.Sum.Sessions; got != 3 {
		t.Errorf("%d sessions, want 3", got)
	}
}

// TestMergedNeverFalls counts while addresses come, go and come back under other numbers,
// and while Topologies are shown that are out of date. No total falls between two looks, none
// is above what was counted, and in the end all is there.
func TestMergedNeverFalls(t *testing.T) {
	const live, rounds = 8, 800
	b := newBoard(t)
	b.OpenPool(poolID)
	var departed Departed
	var counted atomic.Uint64 // before it is on the board
	var shown atomic.Pointer[Topology]
	generations := make([]uint64, 4*live)
	var named, left []ID
	free := make([]uint32, 0, len(generations))
	for i := range generations {
		free = append(free, uint32(i))
	}
	publish := func() {
		be := Backend{Name: "db:80", Weight: 1, Merged: true, Departed: &departed, Left: append([]ID(nil), left...)}
		for _, id := range named {
			be.Targets = append(be.Targets, Target{ID: id})
		}
		shown.Store(&Topology{Pools: []Pool{{ID: poolID, Name: "web", Backends: []Backend{be}}}})
	}
	count := func(id ID, seat int) {
		counted.Add(1)
		b.Target(seat, id).Sessions.Add(1)
	}
	publish()
	var looking sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		looking.Go(func() {
			var last uint64
			for running := true; running; {
				select {
				case <-done:
					running = false
				default:
				}
				got := TakeSnapshot(b, &Window{}, *shown.Load(), fixtureTime).Pools[0].Backends[0].Merged.Sum.Sessions
				if most := counted.Load(); got < last || got > most {
					t.Errorf("%d sessions, %d before, at most %d", got, last, most)
					return
				}
				last = got
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		switch random.IntN(4) {
		case 0: // an address is new
			if len(named) < live && len(free) > 0 {
				i := free[0]
				free = free[1:]
				generations[i]++
				id := NewID(i, generations[i])
				b.OpenTarget(id)
				named = append(named, id)
				publish()
			}
		case 1: // one leaves, and sessions still hold it
			if len(named) > 0 {
				left = append(left, named[0])
				named = named[1:]
				publish()
			}
		case 2: // no session holds one any more; it is shown as left until something else changes
			if len(left) > 0 {
				b.Depart(left[0], &departed)
				free = append([]uint32{left[0].Index()}, free...)
				left = left[1:]
			}
		}
		for _, id := range append(append([]ID(nil), named...), left...) {
			count(id, random.IntN(3))
		}
		if random.IntN(50) == 0 {
			b.Retire(2)
		}
	}
	publish()
	close(done)
	looking.Wait()
	if got := TakeSnapshot(b, &Window{}, *shown.Load(), fixtureTime).Pools[0].Backends[0].Merged.Sum.Sessions; got != counted.Load() {
		t.Errorf("%d sessions in the end, want %d", got, counted.Load())
	}
}
