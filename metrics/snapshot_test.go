package metrics

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

var fixtureTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fixtureTopology is a service in process mode with two workers, one of them dead.
func fixtureTopology() Topology {
	started := fixtureTime.Add(-90 * time.Second)
	return Topology{
		Service: Service{
			Version: "v1.2.3", GoVersion: "go1.26", Name: "edge-1", Mode: "process", Started: started,
			Ready: true, MaxSessions: 5000,
			Config: Config{Path: "sluice.toml", SHA256: "0123456789ab", Generation: 2},
		},
		Listeners: []Listener{{
			Name: "web", Bind: ":0", Address: "[::]:8080", Pool: "web", MaxSessions: 100,
			Steering: Steering{Requested: "auto", Effective: "hash", Reason: "bpf_not_permitted"},
			Queues:   map[int]Queue{0: {Length: 1, Limit: 4096, Drops: 7}},
		}},
		Pools: []Pool{{
			Name: "web", Pick: "round_robin",
			Backends: []Backend{{Name: "db1:80", Weight: 1, Addresses: []string{"10.0.0.1:80"}}, {Name: "db2:80", Weight: 2, Backup: true}},
		}},
		Acceptors: []Acceptor{{Number: 0, Worker: 0}, {Number: 1, Worker: 1}},
		Workers: []Worker{
			{Number: 0, State: WorkerRunning, PID: 100, Started: started, CPUSeconds: 1.5, ResidentBytes: 8 << 20, PSSBytes: 4 << 20, OpenFDs: 12},
			{Number: 1, State: WorkerDead, Restarts: 3},
		},
		Netns: &Netns{ListenOverflows: 1, ListenDrops: 2, MigrationsDone: 3, MigrationsRefused: 4},
	}
}

// fixture is that service after some traffic, with more on the board than it has.
func fixture(t *testing.T) Snapshot {
	t.Helper()
	b := newBoard(t)
	var w Window
	w.Sample(b, fixtureTime.Add(-50*time.Second))
	for a, accepted := range []uint64{60, 40} {
		l, err := b.Listener("web", a)
		check(t, err)
		l.Accepted.Add(accepted)
		l.Active.Store(int64(2 * a))
		l.HalfClosed.Store(int64(a))
		l.Waiting.Store(int64(a))
		l.Waited[WaitConnected].Add(6)
		l.AcceptErrors[AcceptEMFILE].Add(1)
		l.Rejected[RejectMaxSessions].Add(1)
		l.Closed[ReasonClientEOF].Add(accepted - 1 - uint64(2*a))
		l.Received[PathCopy].Add(1000)
		l.Sent[PathSplice].Add(1 << 20)
		l.Duration.Observe(500 * time.Millisecond)
		l.Duration.Observe(48 * time.Hour)
		l.Wait.Observe(50 * time.Microsecond)

		be, err := b.Backend("web", "db1:80", a)
		check(t, err)
		be.Active.Store(int64(2 * a))
		be.Attempts.Add(100)
		be.Errors[ConnectRefused].Add(1)
		be.Sessions.Add(99)
		be.Received.Add(1 << 20)
		be.Sent.Add(1000)
		be.Connect.Observe(2 * time.Millisecond)

		p, err := b.Pool("web", a)
		check(t, err)
		p.Retries.Add(1)
	}
	self, err := b.Acceptor(0)
	check(t, err)
	self.Accepting.Store(1)
	self.Turns.Add(1234)
	self.PipesOpen.Store(4)
	self.PipesInUse.Store(1)
	self.CPU.Store(1) // pinned to CPU 0

	// An acceptor that is no longer there: its totals stay.
	gone, err := b.Listener("web", 2)
	check(t, err)
	gone.Accepted.Add(5)
	gone.Closed[ReasonClientEOF].Add(5)
	// A listener, pool and backend that a reload removed.
	_, err = b.Listener("old", 0)
	check(t, err)
	_, err = b.Pool("old", 0)
	check(t, err)
	_, err = b.Backend("web", "old:80", 0)
	check(t, err)
	return TakeSnapshot(b, &w, fixtureTopology(), fixtureTime)
}

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
	web := s.Listeners[0]
	if got, want := web.Closed["client_eof"], uint64(59+37+5); got != want {
		t.Errorf("%d sessions closed, want %d: those of the acceptor that left included", got, want)
	}
	if len(web.Acceptors) != 2 || web.Acceptors[0].Queue == nil || web.Acceptors[1].Queue != nil {
		t.Errorf("acceptors of web: %+v, want two, the first with its queue", web.Acceptors)
	}
	if d := web.Duration; d.Count != 4 || d.Buckets[len(d.Buckets)-1].Count != 2 || d.Buckets[3].Count != 2 || d.Buckets[2].Count != 0 {
		t.Errorf("durations: %+v, want 2 of half a second and 2 beyond the last bound", d)
	}
}
