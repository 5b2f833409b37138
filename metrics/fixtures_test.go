package metrics

import (
	"testing"
	"time"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBoard(t testing.TB) *Board {
	t.Helper()
	b, err := NewBoard()
	check(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// openAgain maps the board a second time, as a worker would.
func openAgain(t *testing.T, b *Board) *Board {
	t.Helper()
	w, err := OpenBoard(dup(t, b.FD()))
	check(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

var fixtureTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// The IDs of the fixture. Each kind has its own numbers.
var (
	webID, quietID, oldID = NewID(0, 1), NewID(1, 1), NewID(2, 1)
	poolID, apiID         = NewID(0, 1), NewID(3, 1)
	db1ID, db2ID, db3ID   = NewID(0, 1), NewID(1, 2), NewID(2, 1)
)

// fixtureTopology is a service in process mode with two workers, one of them dead.
func fixtureTopology() Topology {
	started := fixtureTime.Add(-90 * time.Second)
	return Topology{
		Service: Service{
			Version: "v1.2.3", GoVersion: "go1.26", Name: "edge-1", Mode: "process", Started: started,
			Ready: true, MaxSessions: 5000,
			DNS: DNS{
				Lookups: map[string]uint64{"found": 10, "nxdomain": 2},
				Names:   []Name{{"db", 2, started, true}, {"spare", 0, time.Time{}, false}},
			},
			Files: []File{
				{Kind: "backends", Path: "/etc/sluice/web.json", OK: true, Entries: 3},
				{Kind: "prefixes", Path: "/etc/sluice/deny.txt", Entries: 100000, Faults: 2, Fault: "line 7: no prefix"},
			},
			Config: Config{
				Path: "sluice.toml", SHA256: "0123456789ab", Generation: 2,
				Reload: Reload{Succeeded: true, LastSuccess: started, Results: map[string]uint64{ReloadSuccess: 1}},
			},
		},
		Listeners: []Listener{{
			ID: webID, Name: "web", Bind: ":0", Address: "[::]:8080", Addresses: []string{"[::]:8080"}, Pool: "web", MaxSessions: 100, Leaving: true,
			Steering: Steering{Requested: "auto", Effective: "hash", Reason: "not_permitted"},
			Queues:   map[int]Queue{0: {Length: 1, Limit: 4096, Drops: 7}},
			Routes:   []Route{{ID: apiID, Name: "api", Pool: "web", On: "sni api.example.com"}, {Name: "gone", Pool: "web", On: "alpn h2"}},
		}},
		Pools: []Pool{{
			ID: poolID, Name: "web", Pick: "round_robin", Panic: true, Queue: 20,
			Backends: []Backend{
				{Name: "db:80", Weight: 1, Targets: []Target{{db1ID, "10.0.0.1:80"}, {db2ID, "10.0.0.2:80"}}},
				{Name: "spare:80", Weight: 2, Backup: true, MaxSessions: 5},
			},
		}},
		Acceptors: []Acceptor{{Number: 0, Worker: 0}, {Number: 1, Worker: 1, Leaving: true}},
		Workers: []Worker{
			{Number: 0, State: WorkerRunning, PID: 100, Started: started, CPUSeconds: 1.5, ResidentBytes: 8 << 20, PSSBytes: 4 << 20, OpenFDs: 12},
			{Number: 1, State: WorkerDead, Restarts: 3},
		},
		Health: map[ID]Health{
			db1ID: {State: TargetDown, Since: started, Check: &Check{
				Since: started, Last: started, Seconds: 0.25, Error: "connection refused",
				Failures: CheckFailures(&[NumCheckFailures]uint64{CheckRefused: 3}), Certificate: started.Add(24 * time.Hour),
			}},
			db2ID: {State: TargetDraining, Since: started, Operator: &Operator{Want: "drain", Who: "uid 0", Since: started, Reason: "new disk"}},
		},
		Netns: &Netns{ListenOverflows: 1, ListenDrops: 2, MigrationsDone: 3, MigrationsRefused: 4},
	}
}

func openFixture(b *Board) {
	for _, id := range []ID{webID, quietID, oldID} {
		b.OpenListener(id)
	}
	b.OpenPool(poolID)
	b.OpenRoute(apiID)
	for _, id := range []ID{db1ID, db2ID, db3ID} {
		b.OpenTarget(id)
	}
}

// fixture is that service after some traffic, with more on the board than it has.
func fixture(t *testing.T) Snapshot {
	t.Helper()
	b := newBoard(t)
	openFixture(b)
	var w Window
	w.Sample(b, []ID{webID}, []int{0, 1}, fixtureTime.Add(-50*time.Second))
	for a, accepted := range []uint64{60, 40} {
		l := b.Listener(a, webID)
		l.Accepted.Add(accepted)
		api := b.Route(a, apiID)
		api.Sessions.Add(accepted / 2)
		api.Active.Store(1)
		api.Received.Add(1000)
		api.Sent.Add(5000)
		l.Active.Store(int64(2 * a))
		l.HalfClosed.Store(int64(a))
		l.Waiting.Store(int64(a))
		l.Waited[WaitConnected].Add(6)
		l.HeldBack[1].Add(8)
		l.HeldBackNanos[1].Add(2_500_000_000)
		l.AcceptErrors[AcceptEMFILE].Add(1)
		l.Rejected[RejectMaxSessions].Add(1)
		l.Closed[ReasonClientEOF].Add(accepted - 1 - uint64(2*a))
		l.Received[PathCopy].Add(1000)
		l.Sent[PathSplice].Add(1 << 20)
		l.Duration.Observe(500 * time.Millisecond)
		l.Duration.Observe(48 * time.Hour)
		l.Wait.Observe(50 * time.Microsecond)

		for i, id := range []ID{db1ID, db2ID} {
			be := b.Target(a, id)
			be.Active.Store(int64(2*a + i))
			be.Attempts.Add(100)
			be.Errors[ConnectRefused].Add(1)
			be.Sessions.Add(99)
			be.Received.Add(1 << 20)
			be.Sent.Add(1000)
			be.Connect.Observe(2 * time.Millisecond)
		}
		p := b.Pool(a, poolID)
		p.Retries.Add(1)
		p.Queued.Store(int64(a))
		p.QueueEnds[QueueServed].Add(3)
		p.QueueWait.Observe(20 * time.Millisecond)
	}
	self := b.Acceptor(0)
	self.Accepting.Store(1)
	self.Turns.Add(1234)
	self.PipesOpen.Store(4)
	self.PipesInUse.Store(1)
	self.CPU.Store(1) // pinned to CPU 0
	self.Generation.Store(2)
	self.Parked.Store(1)
	b.Acceptor(1).Hung.Store(1)
	b.Acceptor(1).Hangs.Add(2)

	// Acceptors that are no longer there: one left for good, one is not named. Their totals stay.
	for _, seat := range []int{2, 3} {
		gone := b.Listener(seat, webID)
		gone.Accepted.Add(5)
		gone.Closed[ReasonClientEOF].Add(5)
	}
	b.Retire(2)
	// A listener and a target that a reload removed.
	b.Listener(0, oldID).Accepted.Add(1)
	b.Target(0, db3ID).Attempts.Add(1)
	return TakeSnapshot(b, &w, fixtureTopology(), fixtureTime)
}
