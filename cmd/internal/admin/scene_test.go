package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/metrics"
)

// scene is a service for the page: a board, a window and a history as a real one has them,
// filled by a test for the last quarter of an hour.
type scene struct {
	board     *metrics.Board
	window    metrics.Window
	history   metrics.History
	topology  metrics.Topology
	listeners []sceneListener
	seats     []int
	random    *rand.Rand
	started   time.Time

	mu    sync.Mutex
	now   time.Time
	ended []Text
}

// sceneListener is how a listener is used: accepts a second, how they are shared (nil =
// evenly), and how long sessions last.
type sceneListener struct {
	name   string
	rate   float64
	lasts  float64
	shares []float64
}

func newScene(t *testing.T, mode string, acceptors, backends int) *scene {
	t.Helper()
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { board.Close() })
	now := time.Now()
	s := &scene{board: board, random: rand.New(rand.NewPCG(1, 2)), now: now.Add(-15*time.Minute - 5*time.Second), started: now.Add(-27*time.Hour - 13*time.Minute)}
	s.topology.Service = metrics.Service{
		Version: "v0.9.0", GoVersion: "go1.26.8", Name: "edge-1", Mode: mode, Started: s.started, Ready: true, MaxSessions: 20000,
		Config: metrics.Config{Path: "/etc/sluice/sluice.toml", SHA256: "3f9a01c27be4", Generation: 7, Reload: metrics.Reload{
			Succeeded: true, LastSuccess: now.Add(-42 * time.Minute), LastTime: now.Add(-42 * time.Minute), Last: "generation 7 is in force: 2 changes",
			Results: map[string]uint64{metrics.ReloadSuccess: 6, metrics.ReloadRefused: 1},
		}},
	}
	for seat := range acceptors {
		s.seats = append(s.seats, seat)
		worker := 0
		if mode == "process" {
			worker = seat
		}
		s.topology.Acceptors = append(s.topology.Acceptors, metrics.Acceptor{Number: seat, Worker: worker})
		if seat == 0 || mode == "process" {
			s.topology.Workers = append(s.topology.Workers, metrics.Worker{Number: worker, State: metrics.WorkerRunning, PID: 4120 + worker, Started: s.started, CPUSeconds: 812 + float64(seat), ResidentBytes: 23 << 20, OpenFDs: 900})
		}
		a := board.Acceptor(seat)
		a.Accepting.Store(1)
		a.Generation.Store(7)
		a.CPU.Store(int64(seat) + 1)
	}
	s.backends(backends)
	return s
}

// backends are one pool, of which some need a look.
func (s *scene) backends(n int) {
	p := metrics.Pool{ID: metrics.NewID(0, 1), Name: "web", Pick: "least_sessions"}
	s.board.OpenPool(p.ID)
	s.topology.Health = map[metrics.ID]metrics.Health{}
	long := s.started
	for i := range n {
		id := metrics.NewID(uint32(i), 1)
		s.board.OpenTarget(id)
		name := fmt.Sprintf("10.0.%d.%d:8080", i/250, 11+i%250)
		p.Backends = append(p.Backends, metrics.Backend{Name: name, Weight: 1, Targets: []metrics.Target{{ID: id, Address: name}}})
		h := metrics.Health{State: metrics.TargetUp, Since: long, Weight: 1, Check: &metrics.Check{Up: true, Since: long}}
		switch {
		case i == 3:
			h = metrics.Health{State: metrics.TargetDown, Since: time.Now().Add(-3*time.Minute - 12*time.Second), Check: &metrics.Check{Error: "GET /healthz: 503 Service Unavailable"}}
		case i == 5:
			h.State, h.Since, h.Weight = metrics.TargetDraining, time.Now().Add(-9*time.Minute), 0
			h.Operator = &metrics.Operator{Want: "drain", Who: "uid 0, pid 2291", Since: h.Since, Reason: "kernel update"}
		case i == 1 && n > 2:
			h.State, h.Since, h.Weight = metrics.TargetWarming, time.Now().Add(-40*time.Second), 0.4
		}
		s.topology.Health[id] = h
	}
	s.topology.Pools = []metrics.Pool{p}
}

// listener adds one, numbered in order.
func (s *scene) listener(name, address, steering, reason string, use sceneListener) {
	id := metrics.NewID(uint32(len(s.listeners)), 1)
	s.board.OpenListener(id)
	use.name = name
	s.listeners = append(s.listeners, use)
	queues := map[int]metrics.Queue{}
	for _, seat := range s.seats {
		queues[seat] = metrics.Queue{Limit: 4096}
	}
	s.topology.Listeners = append(s.topology.Listeners, metrics.Listener{
		ID: id, Name: name, Bind: address, Address: address, Pool: "web", MaxSessions: 10000, Queues: queues,
		Steering: metrics.Steering{Requested: "auto", Effective: steering, Reason: reason},
	})
}

// route adds routes to the listener that was added last, which its sessions take: the first
// has a half of them, the next a half of what is left, and so on.
func (s *scene) route(names ...string) {
	l := &s.topology.Listeners[len(s.topology.Listeners)-1]
	for i, name := range names {
		id := metrics.NewID(uint32(i), 1)
		s.board.OpenRoute(id)
		l.Routes = append(l.Routes, metrics.Route{ID: id, Name: name, Pool: "web", On: "sni " + name + ".example.com"})
	}
}

// takeRoutes spreads what happened to a seat.
func (s *scene) takeRoutes(l *metrics.Listener, seat int, accepted uint64, held int64) {
	for _, r := range l.Routes {
		accepted, held = accepted/2, held/2
		c := s.board.Route(seat, r.ID)
		c.Sessions.Add(accepted)
		c.Active.Store(held)
		c.Received.Add(accepted * 1900)
		c.Sent.Add(accepted * 48000)
	}
}

// past lets a quarter of an hour happen.
func (s *scene) past() {
	for range 182 {
		s.step(5 * time.Second)
	}
}

// step lets a time happen.
func (s *scene) step(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	var ids []metrics.ID
	var historied []metrics.HistoryListener
	for i, use := range s.listeners {
		l := &s.topology.Listeners[i]
		s.happen(l, use, d.Seconds())
		ids = append(ids, l.ID)
		historied = append(historied, metrics.HistoryListener{Name: l.Name, Pool: l.Pool, IDs: []metrics.ID{l.ID}, Queue: func(seat int) (int, bool) {
			if s.random.IntN(40) > 0 {
				return 0, true
			}
			return 1 + s.random.IntN(6), true
		}})
	}
	var targets []metrics.ID
	for _, b := range s.topology.Pools[0].Backends {
		targets = append(targets, b.Targets[0].ID)
	}
	s.window.Sample(s.board, ids, s.seats, s.now)
	if d < 5*time.Second {
		return
	}
	s.history.Sample(s.board, historied, []metrics.HistoryPool{{Name: "web", Targets: targets}}, s.seats, s.now)
}

func (s *scene) happen(l *metrics.Listener, use sceneListener, seconds float64) {
	minute := float64(s.now.Unix()) / 60
	swing := 1 + 0.28*math.Sin(minute/1.9) + 0.13*math.Sin(minute*2.3)
	n := use.rate * swing * seconds * (1 + 0.04*s.random.NormFloat64())
	for i, seat := range s.seats {
		share := 1 / float64(len(s.seats))
		if use.shares != nil {
			share = use.shares[i%len(use.shares)]
		}
		accepted := uint64(max(0, n*share))
		if use.shares != nil {
			accepted = uint64(max(0, n*share+math.Sqrt(n*share)*s.random.NormFloat64()))
		}
		c := s.board.Listener(seat, l.ID)
		c.Accepted.Add(accepted)
		held := int64(use.rate * swing * share * use.lasts)
		if use.shares != nil {
			held += int64(0.16 * float64(held) * math.Sin(minute/2.7+1.9*float64(seat)))
		}
		s.board.Acceptor(seat).Sessions.Add(held - c.Active.Load())
		c.Active.Store(held)
		c.Received[metrics.PathCopy].Add(accepted * 1900)
		c.Sent[metrics.PathSplice].Add(accepted * 48000)
		for reason, part := range map[metrics.Reason]float64{metrics.ReasonClientEOF: .78, metrics.ReasonBackendEOF: .19, metrics.ReasonClientReset: .021, metrics.ReasonIdleTimeout: .004, metrics.ReasonConnectFailed: .011} {
			c.Closed[reason].Add(uint64(float64(accepted) * part))
		}
		s.takeRoutes(l, seat, accepted, held)
		s.reach(seat, accepted, held)
	}
}

// reach spreads sessions over the backends that are up.
func (s *scene) reach(seat int, accepted uint64, held int64) {
	var up []metrics.ID
	for _, b := range s.topology.Pools[0].Backends {
		switch id := b.Targets[0].ID; s.topology.Health[id].State {
		case metrics.TargetUp, metrics.TargetWarming:
			up = append(up, id)
		case metrics.TargetDown:
			s.board.Target(seat, id).Errors[metrics.ConnectRefused].Store(31)
		}
	}
	for i, id := range up {
		t := s.board.Target(seat, id)
		n := accepted / uint64(len(up))
		t.Sessions.Add(n)
		t.Attempts.Add(n)
		t.Active.Store((held + int64(i)) / int64(len(up)))
		t.Received.Add(n * 48000)
		t.Sent.Add(n * 1900)
		for range min(n, 20) {
			t.Connect.Observe(time.Duration((180 + 60*math.Abs(s.random.NormFloat64())) * float64(time.Microsecond)))
		}
	}
}

// end lets sessions end, for the list.
func (s *scene) end(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		i := len(s.ended)
		level, reason, code := "info", "client_eof", "C-"
		backend := s.topology.Pools[0].Backends[s.random.IntN(len(s.topology.Pools[0].Backends))].Name
		switch {
		case i%17 == 5:
			level, reason, code = "warn", "client_reset", "CD"
		case i%23 == 7:
			level, reason, code = "warn", "connect_failed", "SC"
		case i%4 == 1:
			reason, code = "backend_eof", "S-"
		}
		line, _ := json.Marshal(map[string]any{
			"time": time.Now().UTC().Add(time.Duration(i-n) * 311 * time.Millisecond), "level": level, "event": "closed", "id": fmt.Sprintf("%d-%d-1f3a%04x", i%len(s.seats), i%64, i),
			"listener": s.listeners[i%len(s.listeners)].name, "acceptor": i % len(s.seats), "client": fmt.Sprintf("203.0.113.%d:%d", 2+s.random.IntN(250), 30000+s.random.IntN(30000)),
			"backend": backend, "bytes_in": 300 + s.random.IntN(4000), "bytes_out": 900 + s.random.IntN(90000), "duration_ms": float64(s.random.IntN(90000)) / 10, "reason": reason, "close_code": code,
		})
		s.ended = append(s.ended, line)
	}
}

func (s *scene) options() Options {
	return Options{
		Snapshot: func() metrics.Snapshot {
			s.mu.Lock()
			defer s.mu.Unlock()
			return metrics.TakeSnapshot(s.board, &s.window, s.topology, s.now)
		},
		History: s.history.Since,
		Ended: func(after uint64) Ended {
			s.mu.Lock()
			defer s.mu.Unlock()
			n := uint64(len(s.ended))
			return Ended{Last: n, Sessions: slices.Clone(s.ended[min(after, n):])}
		},
		Config: func() string { return "[acceptors]\ncount = 4\n" },
	}
}
