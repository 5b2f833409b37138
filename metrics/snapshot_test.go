package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

func TestSnapshotJSON(t *testing.T) {
	s := fixture(t)
	text, err := json.MarshalIndent(s, "", "  ")
	check(t, err)
	golden(t, "snapshot.json", append(text, '\n'))

	var back Snapshot // top reads it
	check(t, json.Unmarshal(text, &back))
	if !reflect.DeepEqual(back, s) {
		t.Errorf("read back from JSON:\n%+v\nwant:\n%+v", back, s)
	}
}

// TestSnapshotOfNothing holds that lists are lists and numbers numbers, too,
// before there is anything to count.
func TestSnapshotOfNothing(t *testing.T) {
	b := newBoard(t)
	for name, top := range map[string]Topology{"empty": {}, "no traffic": fixtureTopology()} {
		text, err := json.Marshal(TakeSnapshot(b, &Window{}, top, fixtureTime))
		check(t, err)
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("%s: null in %s", name, text)
		}
	}
}

func TestSnapshotLeavesOutWhatIsGone(t *testing.T) {
	s := fixture(t)
	if len(s.Listeners) != 1 || len(s.Pools) != 1 || len(s.Pools[0].Backends) != 2 || len(s.Acceptors) != 2 {
		t.Errorf("shows %d listeners, %d pools, %d acceptors; want the Topology's 1, 1, 2", len(s.Listeners), len(s.Pools), len(s.Acceptors))
	}
	if be := s.Pools[0].Backends; len(be[0].Targets) != 2 || len(be[1].Targets) != 0 {
		t.Errorf("shows the targets %+v, want two of the first backend", be)
	}
	web := s.Listeners[0]
	if got, want := web.Closed.Of("client_eof"), uint64(59+37+5+5); got != want {
		t.Errorf("%d sessions closed, want %d: those of the acceptors that left included", got, want)
	}
	if len(web.Acceptors) != 2 || web.Acceptors[0].Queue == nil || web.Acceptors[1].Queue != nil {
		t.Errorf("acceptors of web: %+v, want two, the first with its queue", web.Acceptors)
	}
	if d := web.Duration; d.Count != 4 || d.Buckets[len(d.Buckets)-1].Count != 2 || d.Buckets[3].Count != 2 || d.Buckets[2].Count != 0 {
		t.Errorf("durations: %+v, want 2 of half a second and 2 beyond the last bound", d)
	}
}

// Reading must not make what it reads: 64 seats of 10,000 targets would be 200 MB.
func TestSnapshotTouchesNothing(t *testing.T) {
	b := newBoard(t)
	top := bigTopology(b, 1000, 16)
	b.Target(3, NewID(999, 1)).Active.Store(1)
	before := allocatedBytes(t, b.FD())
	var w Window
	w.Sample(b, []ID{webID}, []int{0, 1, 2, 3}, fixtureTime)
	s := TakeSnapshot(b, &w, top, fixtureTime)
	if got := s.Pools[0].Backends[999].Targets[0].Active; got != 1 {
		t.Errorf("target 999 is held by %d sessions, want 1", got)
	}
	if after := allocatedBytes(t, b.FD()); after != before {
		t.Errorf("the board has %d bytes after a snapshot, %d before", after, before)
	}
}

// bigTopology is a listener and a pool of n backends with an address each.
func bigTopology(b *Board, n, seats int) Topology {
	b.OpenListener(webID)
	b.OpenPool(poolID)
	p := Pool{ID: poolID, Name: "web"}
	for i := range n {
		id := NewID(uint32(i), 1)
		b.OpenTarget(id)
		p.Backends = append(p.Backends, Backend{Name: fmt.Sprint("db", i), Weight: 1, Targets: []Target{{id, "10.0.0.1:80"}}})
	}
	top := Topology{Listeners: []Listener{{ID: webID, Name: "web"}}, Pools: []Pool{p}}
	for seat := range seats {
		top.Acceptors = append(top.Acceptors, Acceptor{Number: seat})
	}
	return top
}

// What a scrape reads of 1,000 backends on 16 seats.
func BenchmarkSnapshot(b *testing.B) {
	board := newBoard(b)
	top := bigTopology(board, 1000, 16)
	for seat := range 16 {
		board.Acceptor(seat).Turns.Add(1)
		board.Listener(seat, webID).Accepted.Add(1)
		for i := range 1000 {
			board.Target(seat, NewID(uint32(i), 1)).Attempts.Add(1)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := TakeSnapshot(board, &Window{}, top, fixtureTime); s.Pools[0].Backends[999].Targets[0].Attempts != 16 {
			b.Fatal("attempts missing")
		}
	}
}
