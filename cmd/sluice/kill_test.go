package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// A worker that is killed takes the sessions it ran with it, and nothing else: as
// many as clients lose are counted, and all that it held is given back.
func TestWorkerKilled(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "4", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	const sessions = 40
	var clients []*net.TCPConn
	lost := 0
	for round := range 4 {
		for len(clients) < sessions {
			c := dial(t, s.addr())
			if !talks(c) {
				t.Fatal("a new session does not talk")
			}
			clients = append(clients, c)
		}
		victim := s.awaitWorkers()[round]
		ran := s.heldBy(victim.Number)
		kill(t, victim.PID, syscall.SIGKILL)
		lost += ran
		eventually(t, patience, "the dead worker's sessions are counted", func() bool { return s.died() >= lost })
		var left []*net.TCPConn
		for _, c := range clients {
			if talks(c) {
				left = append(left, c)
			}
		}
		if broken := len(clients) - len(left); broken != ran || s.died() != lost {
			t.Errorf("round %d: worker %d ran %d sessions, clients lost %d; %d counted, want %d", round, victim.Number, ran, broken, s.died(), lost)
		}
		if on := int(s.metric("sluice_backend_active_connections")); on != len(left) {
			t.Errorf("round %d: %d sessions on the backend, %d live", round, on, len(left))
		}
		clients = left
	}
	if lost == 0 {
		t.Error("no victim ran a session")
	}
	for _, w := range s.awaitWorkers() {
		if w.Restarts != 1 {
			t.Errorf("worker %d: %d restarts, want 1", w.Number, w.Restarts)
		}
	}
	s.tells(`"msg":"worker died"`, func(n int) bool { return n == 4 })
	for _, c := range clients {
		c.Close()
	}
	s.awaitIdle()
}

// 200 connections wait in the queue of a worker that is stopped, and then killed: its
// successor serves them.
func TestQueueOfADeadWorker(t *testing.T) {
	const waiting = 200
	s := sluice(t, "process", "-c", configFile(t, fmt.Sprintf(`
[acceptors]
count = 4
steering = "hash"   # goes on to choose the stopped one
hang_after = "1m"   # and nobody takes its place
[listener.main]
bind = "127.0.0.1:0"
pool = "main"
[pool.main]
backends = [%q]
`, namer(t, 'a').addr)))
	victim := s.awaitWorkers()[1]
	freeze(t, victim.PID)
	queue := func() int { return int(s.status().Listeners[0].Acceptors[victim.Number].Queue.Length) }
	var clients []net.Conn
	for queue() < waiting {
		if len(clients) > 40*waiting {
			t.Fatalf("%d of %d connections wait", queue(), len(clients))
		}
		for range 20 {
			clients = append(clients, dial(t, s.addr()))
		}
	}
	waited := queue()
	kill(t, victim.PID, syscall.SIGKILL)
	for _, c := range clients {
		askName(t, c)
	}
	if n := s.died(); n != 0 {
		t.Errorf("%d sessions died with a worker that ran none", n)
	}
	if n := s.heldBy(victim.Number); n < waited {
		t.Errorf("the successor serves %d, %d waited", n, waited)
	}
}

// Under load, workers are killed at random: what clients lose are sessions that were
// running in the killed worker. A connect never fails, and the books are balanced
// at the end.
func TestWorkersKilledUnderLoad(t *testing.T) {
	takesLong(t)
	kills := 100
	if testing.Short() {
		kills = 12
	}
	// No acceptor passes a connection on: dying over that, it could count it twice.
	s := sluice(t, "process", "--acceptors", "4", "--steering", "hash", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	s.awaitWorkers()
	descriptors := openFDs(t, s.cmd.Process.Pid)
	load := startLoad(s.addr(), 40, 20*time.Millisecond) // 2,000 connects/s, where the machine can
	begin := time.Now()
	for killed := range kills {
		var victims []metrics.Worker
		eventually(t, startWithin, "the last victim is back, and there is another", func() bool {
			victims = victims[:0]
			restarts := 0
			for _, w := range s.status().Workers {
				restarts += int(w.Restarts)
				// One that has lived for its half second will be restarted at once.
				if w.State == metrics.WorkerRunning && time.Since(w.Started) > 550*time.Millisecond {
					victims = append(victims, w)
				}
			}
			return restarts == killed && len(victims) > 0
		})
		kill(t, victims[rand.IntN(len(victims))].PID, syscall.SIGKILL)
	}
	took := time.Since(begin)
	s.awaitWorkers()
	load.stop()
	s.awaitIdle()
	died, broken, served := s.died(), int(load.broken.Load()), int(load.served.Load())
	t.Logf("%d kills in %v, %d served (%.0f/s): clients lost %d sessions; %d counted, so %d died between their client's end and their own",
		kills, took.Round(time.Second), served, float64(served)/took.Seconds(), broken, died, died-broken)
	if n := openFDs(t, s.cmd.Process.Pid); n > descriptors {
		t.Errorf("the supervisor has %d descriptors, before it had %d", n, descriptors)
	}
	if n := load.refused.Load(); n != 0 {
		t.Errorf("%d connects failed: %v", n, load.fault.Load())
	}
	if broken > died {
		t.Errorf("clients lost %d sessions, only %d died with a worker", broken, died)
	}
	if restarts := int(s.metric("sluice_worker_restarts_total")); restarts != kills {
		t.Errorf("%d restarts for %d kills", restarts, kills)
	}
	// A worker may die between accept(2) and counting what it accepted, once in a while.
	if accepted, had := int(s.metric("sluice_acceptor_accepted_connections_total")), served+broken; accepted > had || accepted < had-3 {
		t.Errorf("%d accepted, clients had %d", accepted, had)
	}
}

// load is clients that connect, have a byte echoed and leave, over and over.
type load struct {
	served, broken, refused atomic.Int64
	slowest                 atomic.Int64 // connect of all, in nanoseconds
	fault                   atomic.Value // the last error of a connect
	end                     chan struct{}
	clients                 sync.WaitGroup
}

// startLoad starts clients that begin a session each pace, or as soon as they can.
func startLoad(addr string, clients int, pace time.Duration) *load {
	l := &load{end: make(chan struct{})}
	for range clients {
		l.clients.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-l.end:
					return
				case <-tick.C:
					l.session(addr)
				}
			}
		})
	}
	return l
}

func (l *load) session(addr string) {
	begin := time.Now()
	c, err := net.DialTimeout("tcp", addr, patience)
	took := int64(time.Since(begin))
	for was := l.slowest.Load(); took > was && !l.slowest.CompareAndSwap(was, took); was = l.slowest.Load() {
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET): // accepted, and ended before connect(2) returned
		l.broken.Add(1)
		return
	case err != nil:
		l.refused.Add(1)
		l.fault.Store(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if talks(c) {
		l.served.Add(1)
	} else {
		l.broken.Add(1)
	}
}

func (l *load) stop() {
	close(l.end)
	l.clients.Wait()
}

// A worker that dies as soon as it is there is started again less and less often,
// while its siblings serve; what is up can be read.
func TestCrashLoop(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "4", "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)
	s.expectPage("/readyz", http.StatusOK, "ready")
	seen := map[metrics.WorkerState]bool{}
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		w := s.status().Workers[0]
		seen[w.State] = true
		if w.PID != 0 {
			_ = syscall.Kill(w.PID, syscall.SIGKILL) // it may have died of the last one
		}
		if w.State == metrics.WorkerDead {
			if _, text := s.get("/readyz"); text != "ready\n" && text != "ready, 3 of 4 workers up\n" {
				t.Fatalf("readyz: %q", text)
			}
		}
	}
	// At 0, and then after 100, 200, 400, 800 and 1,600 ms: five or six in three seconds.
	if n := s.status().Workers[0].Restarts; n < 3 || n > 6 {
		t.Errorf("%d starts in three seconds", n)
	}
	if !seen[metrics.WorkerDead] {
		t.Error("the worker was never seen dead")
	}
	s.tells(`"msg":"worker died","worker":0`, func(n int) bool { return n >= 3 })
	for range 20 {
		if c := dial(t, s.addr()); !talks(c) {
			t.Error("a session is not served")
		}
	}
	s.awaitWorkers()
	s.expectPage("/readyz", http.StatusOK, "ready")
}

// A worker that takes another's place to accept dies in its turn: its successor goes on
// with both.
func TestRescuerKilled(t *testing.T) {
	s := sluice(t, "process", "--acceptors", "2", "--steering", "hash", "--listen", "127.0.0.1:0", "--backend", namer(t, 'a').addr)
	ws := s.awaitWorkers()
	freeze(t, ws[0].PID)
	rescued := func() int { return int(s.status().Listeners[0].Acceptors[1].Rescued) }
	serve := func() {
		before := rescued()
		eventually(t, patience, "a connection of the hung one's is served", func() bool {
			askName(t, dial(t, s.addr()))
			return rescued() > before
		})
	}
	serve()
	kill(t, ws[1].PID, syscall.SIGKILL)
	serve()
}
