package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
)

// gate is a backend that checks by itself how many sessions it has: it says its name to each
// and keeps it for as long as the client does.
type gate struct {
	*peer
	name  byte
	limit int

	mu       sync.Mutex
	open     map[*net.TCPConn]bool
	most     int // at a time
	exceeded int // times that there was one more than limit
	served   int
}

func startGate(t *testing.T, name byte, limit int) *gate {
	g := &gate{name: name, limit: limit, open: map[*net.TCPConn]bool{}}
	g.peer = startPeer(t, "", g.serve)
	return g
}

func (g *gate) serve(c *net.TCPConn) {
	g.mu.Lock()
	g.open[c] = true
	g.served++
	n := len(g.open)
	if n > g.limit { // some of them may have ended, and their goroutines not have seen it yet
		n = g.established()
	}
	g.most = max(g.most, n)
	if n > g.limit {
		g.exceeded++
	}
	g.mu.Unlock()
	if _, err := c.Write([]byte{g.name}); err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
	g.mu.Lock()
	delete(g.open, c)
	g.mu.Unlock()
	c.Close()
}

// established asks the kernel which of the connections the other side has not ended.
func (g *gate) established() (n int) {
	for c := range g.open {
		raw, err := c.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.State == unix.BPF_TCP_ESTABLISHED {
				n++
			}
		})
	}
	return n
}

// check says whether the limit was kept, and reached.
func (g *gate) check(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exceeded > 0 || g.most != g.limit {
		t.Errorf("backend %c had up to %d sessions at a time, more than its limit %d times; want %d", g.name, g.most, g.exceeded, g.limit)
	}
}

// behindGates is a service of four acceptors whose backends are gates.
func behindGates(gates []*gate, lines ...string) string {
	return acceptorsTable(4, "auto") + listenerAt("main", "127.0.0.1:0", "app") + poolOf("app", atGates(gates), lines...)
}

func atGates(gates []*gate) (backends []string) {
	for _, g := range gates {
		backends = append(backends, fmt.Sprintf("%s max_sessions=%d", g.addr, g.limit))
	}
	return backends
}

// visitGate is one short session; false = it was cut.
func visitGate(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	return err == nil
}

// The backends never have more sessions than they may, whichever of four acceptors picks,
// and all that the queue has room for are served. Then nothing is left.
// TEST_SESSIONS=1000000 is for a run by hand.
func TestMaxSessionsIsNeverExceeded(t *testing.T) {
	t.Parallel()
	const clients = 30
	each := 20
	if n, err := strconv.Atoi(os.Getenv("TEST_SESSIONS")); err == nil {
		each = n / clients / 2
	}
	modesTogether(t, func(t *testing.T, mode string) {
		picks := map[string][]*gate{"round_robin": nil, "first": nil} // each has a listener and a pool of its own
		text := acceptorsTable(4, "auto")
		for pick := range picks {
			gates := []*gate{startGate(t, 'a', 3), startGate(t, 'b', 5), startGate(t, 'c', 1)}
			picks[pick] = gates
			text += listenerAt(pick, "127.0.0.1:0", pick) + poolOf(pick, atGates(gates), fmt.Sprintf("pick = %q", pick), "queue = 100", `queue_timeout = "1m"`)
		}
		s := sluice(t, mode, "-c", configFile(t, text))
		held := s.descriptors()
		var all sync.WaitGroup
		var cut atomic.Int64
		for pick := range picks {
			for range clients {
				all.Go(func() {
					for range each {
						if !visitGate(s.addrs[pick]) {
							cut.Add(1)
						}
					}
				})
			}
		}
		all.Wait()
		if n := cut.Load(); n > 0 {
			t.Errorf("%d of %d sessions were cut", n, len(picks)*clients*each)
		}
		s.awaitIdle()
		s.awaitQueue(0)
		for _, p := range s.status().Pools {
			served := 0
			for _, g := range picks[p.Name] {
				g.check(t)
				served += g.count()
			}
			if q := p.Queue; q.Ends.Of("served") == 0 || q.Wait.Count != q.Ends.Of("served") || q.Ends.Of("full")+q.Ends.Of("timeout")+q.Ends.Of("left") > 0 || q.Limit != 100 || served != clients*each {
				t.Errorf("%s: %d sessions, and the queue is %+v", p.Name, served, q)
			} else {
				t.Logf("%s: %d sessions, of which %d waited", p.Name, served, q.Ends.Of("served"))
			}
		}
		eventually(t, patience, "no descriptor is left over", func() bool { return s.descriptors() <= held+4 }) // the admin endpoint may have some connections open
	})
}

// awaitQueue waits until so many sessions wait for a place.
func (s *instance) awaitQueue(n int) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%d sessions wait for a place", n), func() bool {
		return s.metric("sluice_pool_queue_length") == float64(n)
	})
}

// holdAll takes all places of gates, and then has n clients wait, one after the other.
func holdAll(t *testing.T, s *instance, gates []*gate, n int) (held, waiting []*net.TCPConn) {
	t.Helper()
	for _, g := range gates {
		for range g.limit {
			c := dial(t, s.addr())
			askName(t, c)
			held = append(held, c)
		}
	}
	before := int(s.metric("sluice_pool_queue_length"))
	for i := range n {
		waiting = append(waiting, dial(t, s.addr()))
		s.awaitQueue(before + i + 1)
	}
	return held, waiting
}

// unserved fails if a client has heard anything yet.
func unserved(t *testing.T, clients []*net.TCPConn) {
	t.Helper()
	for i, c := range clients {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT); n != -1 || !errors.Is(err, syscall.EAGAIN) {
				t.Errorf("client %d behind was served or cut: %d, %v", i, n, err)
			}
		})
	}
}

// The first to come is served first, over all acceptors.
func TestQueueIsFirstComeFirstServed(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		gates := []*gate{startGate(t, 'a', 2)}
		s := sluice(t, mode, "-c", configFile(t, behindGates(gates, "queue = 20", `queue_timeout = "1m"`)))
		held, waiting := holdAll(t, s, gates, 12)
		reset(t, waiting[4]) // one in the middle leaves
		waiting = slices.Delete(waiting, 4, 5)
		s.awaitQueue(11)
		for len(waiting) > 0 {
			held[0].Close()
			held = append(held[1:], waiting[0])
			askName(t, waiting[0])
			waiting = waiting[1:]
			unserved(t, waiting)
		}
		gates[0].check(t)
		q := s.status().Pools[0].Queue
		if q.Ends.Of("served") != 11 || q.Ends.Of("left") != 1 {
			t.Errorf("the queue ended %v", q.Ends)
		}
		s.expectClosed(map[string]int{"client_eof": 11, "client_reset": 1})
	})
}

// A queue that is full, and a wait that is too long, have their reasons; without a queue
// no session waits. A reload that makes room serves those that wait.
func TestQueueIsBounded(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		gates := []*gate{startGate(t, 'a', 1)}
		s := startChanging(t, mode, behindGates(gates, "queue = 3", `queue_timeout = "1m"`))
		held, waiting := holdAll(t, s.instance, gates, 3)
		for range 2 {
			expectRefusal(t, s.addr())
		}
		s.expectClosed(map[string]int{"queue_full": 2})
		if n := s.metric("sluice_pool_queue_sessions_total", `result="full"`); n != 2 {
			t.Errorf("%v were not let in", n)
		}
		var shown bytes.Buffer
		if exit := status(env{stdout: &shown, stderr: &shown, vars: config.Environment{}}, []string{"-socket", s.socket}); exit != exitOK {
			t.Errorf("sluice status: %d", exit)
		}
		for _, want := range []string{` 1 of 1 `, "QUEUE OF POOL", `app +3 of 3 +0 +0 +2`} {
			if !regexp.MustCompile(want).Match(shown.Bytes()) {
				t.Errorf("sluice status does not show %q:\n%s", want, shown.String())
			}
		}
		gates[0].mu.Lock()
		gates[0].limit = 4
		gates[0].mu.Unlock()
		s.reload(behindGates(gates, "queue = 3", `queue_timeout = "300ms"`))
		s.awaitGeneration()
		for _, c := range waiting {
			askName(t, c)
		}
		late := dial(t, s.addr())
		begin := time.Now()
		expectReset(t, late)
		if took := time.Since(begin); took < 250*time.Millisecond {
			t.Errorf("it was cut after %v", took)
		}
		s.expectClosed(map[string]int{"queue_full": 2, "queue_timeout": 1})
		s.reload(behindGates(gates))
		s.awaitGeneration()
		expectRefusal(t, s.addr())
		s.expectClosed(map[string]int{"queue_full": 3, "queue_timeout": 1})
		for _, c := range append(held, waiting...) {
			c.Close()
		}
		gates[0].check(t)
		if got := s.metric("sluice_backend_max_sessions"); got != 4 {
			t.Errorf("sluice_backend_max_sessions is %v", got)
		}
	})
}

// Workers that are killed, with sessions and with clients in the queue, take no place along,
// and the limit holds all the while.
func TestWorkersKilledUnderALimit(t *testing.T) {
	gates := []*gate{startGate(t, 'a', 3), startGate(t, 'b', 3)}
	s := sluice(t, "process", "-c", configFile(t, behindGates(gates, "queue = 100", `queue_timeout = "1m"`)))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					visitGate(s.addr())
				}
			}
		})
	}
	for i := range 8 {
		w := s.awaitWorkers()[i%4]
		before := gates[0].count() + gates[1].count()
		kill(t, w.PID, syscall.SIGKILL)
		eventually(t, patience, "sessions go on", func() bool { return gates[0].count()+gates[1].count() > before+20 })
		eventually(t, patience, "the worker is back", func() bool {
			again := s.status().Workers[i%4]
			return again.PID != 0 && again.PID != w.PID
		})
	}
	close(stop)
	all.Wait()
	s.awaitIdle()
	s.awaitQueue(0)
	_, waiting := holdAll(t, s, gates, 1) // all places are there, and no more
	unserved(t, waiting)
	for _, g := range gates {
		g.check(t)
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.served
}

// A worker that is stopped with the first of the queue holds no other up: it is passed
// over, and its client has a turn when it goes on.
func TestStoppedAcceptorIsPassedOver(t *testing.T) {
	gates := []*gate{startGate(t, 'a', 1)}
	text := behindGates(gates, "queue = 20", `queue_timeout = "1m"`)
	s := sluice(t, "process", "-c", configFile(t, "[acceptors]\ncount = 2\nhang_after = \"100ms\"\n"+text[len(acceptorsTable(4, "auto")):]))
	// waiter adds a client that waits, on that acceptor.
	waiter := func(acceptor int) *net.TCPConn {
		t.Helper()
		before := int(s.metric("sluice_pool_queue_length"))
		for range 50 {
			held := s.heldBy(acceptor)
			c := dial(t, s.addr())
			s.awaitQueue(before + 1)
			if s.heldBy(acceptor) > held {
				return c
			}
			reset(t, c)
			s.awaitQueue(before)
		}
		t.Fatalf("no client comes to acceptor %d", acceptor)
		return nil
	}
	held := dial(t, s.addr())
	askName(t, held)
	goes, stops := 0, 1
	if s.heldBy(goes) == 0 {
		goes, stops = stops, goes
	}
	first := waiter(stops)
	second := waiter(goes)
	pid := s.awaitWorkers()[stops].PID
	kill(t, pid, syscall.SIGSTOP)
	defer kill(t, pid, syscall.SIGCONT)
	held.Close()
	askName(t, second)
	unserved(t, []*net.TCPConn{first})
	kill(t, pid, syscall.SIGCONT)
	second.Close()
	askName(t, first)
	gates[0].check(t)
}
