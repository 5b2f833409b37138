package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Reloads of files at random, good and bad, by all ways to ask for one, under short
// connections and long streams. No client of a listener that stays sees any of it, and
// in the end nothing is left over. TEST_RELOADS=1000, or 10000, is for a run by hand, under
// four times the connections and ten times the streams.
func TestRandomReloads(t *testing.T) {
	reloads, short, long := 25, 500, 50
	if n, err := strconv.Atoi(os.Getenv("TEST_RELOADS")); err == nil {
		reloads, short, long = n, 2000, 500
	}
	ways := []string{"hash", "least"}
	if testing.Short() {
		reloads, ways = min(reloads, 15), ways[:1]
	}
	for _, steering := range ways {
		t.Run(steering, func(t *testing.T) {
			if steering == "least" {
				needBPF(t)
			}
			modesTogether(t, func(t *testing.T, mode string) { randomReloads(t, mode, steering, reloads, short, long) })
		})
	}
}

// randomReloads reloads under short connections, that many a second, and long streams.
func randomReloads(t *testing.T, mode, steering string, reloads, short, long int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := newGenerator(t, seed, steering)
	s := startChanging(t, mode, g.base())
	// What a service has that has been changed once: some things are made when they are needed first.
	s.reload(g.full())
	s.reload(g.base())
	s.awaitAlone()
	before := s.footprint()

	shorts := []*traffic{startTraffic(g.stays[0], short/2), startTraffic(g.stays[1], short/2)}
	var longs streams
	for i := range long {
		longs.begin(t, g.stays[i%2], i, time.Duration(long)*2*time.Millisecond)
	}
	counts := map[string]int{}
	for range reloads {
		if t.Failed() {
			break
		}
		text, good := g.next()
		s.write(text)
		switch {
		case !good:
			if status, _, faults := s.ask(); status != exitFault {
				t.Errorf("a bad file was taken: %s", faults)
			}
			counts["bad"]++
		case g.IntN(4) == 0:
			n := len(s.reloads())
			s.signal(syscall.SIGHUP)
			if all := s.awaitReloads(n + 1); !all[n].OK {
				t.Errorf("a good file was refused: %s", all[n].Verdict)
			}
			counts["by signal"]++
		default:
			if status, _, faults := s.ask(); status != exitOK {
				t.Errorf("a good file was refused: %s", faults)
			}
			counts["by the verb"]++
		}
		time.Sleep(time.Duration(g.IntN(100)) * time.Millisecond)
	}
	for _, through := range shorts {
		checkVisits(t, through.stop())
	}
	moved := longs.end(t)
	t.Logf("%v; %d MiB in %d streams", counts, moved>>20, long)

	s.reload(g.base())
	s.awaitAlone()
	s.awaitNoSeries(`listener="comes`)
	s.awaitNoSeries(`pool="comes`)
	s.awaitNoSeries(fmt.Sprintf("address=%q", g.backends[len(g.backends)-1]))
	var more []string
	defer func() {
		if len(more) > 0 {
			t.Logf("left over: %v", more)
		}
	}()
	eventually(t, patience, "nothing is left over", func() bool {
		more = s.footprint().more(before)
		return len(more) == 0
	})
}

// awaitAlone waits until one acceptor is there, without sessions, and no listener leaves.
func (c *changing) awaitAlone() {
	c.t.Helper()
	eventually(c.t, 2*patience, "one acceptor and no session", func() bool {
		return len(c.status().Acceptors) == 1 && c.sessions() == 0 && c.metric("sluice_listener_leaving") == 0
	})
	c.awaitGeneration()
}

// footprint is what a service holds.
type footprint struct {
	descriptors, goroutines, processes int
	memory                             int // PSS of all processes, in MiB
	series                             map[string]bool
}

func (c *changing) footprint() footprint {
	c.t.Helper()
	f := footprint{descriptors: c.descriptors(), goroutines: int(c.metric("go_goroutines")), processes: len(c.processes()), series: map[string]bool{}}
	if !raced() { // its shadow memory would be counted, too
		f.memory = c.pss() >> 20
	}
	_, page := c.get("/metrics")
	for line := range strings.Lines(page) {
		// (The last minute's figures are there where connections came in it.)
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "sluice_") && !strings.HasPrefix(name, "sluice_listener_accept_chi_square") {
			f.series[name] = true
		}
	}
	return f
}

// more is what it has and another had not. The admin endpoint may have some connections
// open, and a goroutine or two each.
func (f footprint) more(before footprint) (more []string) {
	for series := range f.series {
		if !before.series[series] {
			more = append(more, series)
		}
	}
	for _, n := range []struct {
		what              string
		now, before, some int
	}{
		{"descriptors", f.descriptors, before.descriptors, 4},
		{"goroutines", f.goroutines, before.goroutines, 8},
		{"processes", f.processes, before.processes, 0},
		{"MiB", f.memory, before.memory, 8 + before.memory/4}, // the heap breathes
	} {
		if n.now > n.before+n.some {
			more = append(more, fmt.Sprintf("%d %s, were %d", n.now, n.what, n.before))
		}
	}
	return more
}

// generator makes configurations. Two listeners are in each; the rest comes and goes.
type generator struct {
	*rand.Rand
	steering string
	stays    [2]string
	comes    []string // addresses of the listeners that come and go
	backends []string
}

func newGenerator(t *testing.T, seed uint64, steering string) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), steering: steering}
	for i := range g.stays {
		g.stays[i] = unused(t)
	}
	for range 6 {
		g.comes = append(g.comes, unused(t))
	}
	for range 12 {
		g.backends = append(g.backends, echoing(t).addr)
	}
	return g
}

func (g *generator) base() string {
	return g.file(1, poolOf("stays", g.backends[:1]))
}

// full has all that a file may have.
func (g *generator) full() string {
	pool := poolOf("stays", g.backends[:1]) + poolOf("comes-0", g.backends)
	for i, addr := range g.comes {
		pool += listenerAt(fmt.Sprint("comes-", i), addr, "comes-0")
	}
	return g.file(8, pool)
}

func (g *generator) file(count int, rest string, lines ...string) string {
	text := "[limits]\ndrain_timeout = \"1s\"\n" + acceptorsTable(count, g.steering)
	for i, addr := range g.stays {
		text += listenerAt(fmt.Sprint("stays-", i), addr, "stays", lines...)
	}
	return text + rest
}

// next is some file, and whether it is good.
func (g *generator) next() (text string, good bool) {
	some := func() []string {
		var all []string
		for _, i := range g.Perm(len(g.backends))[:1+g.IntN(len(g.backends))] {
			all = append(all, fmt.Sprintf("%s weight=%d", g.backends[i], 1+g.IntN(5)))
		}
		return all
	}
	picks := []string{`pick = "round_robin"`, `pick = "least_sessions"`, `pick = "source_hash"`}
	rest := poolOf("stays", some(), picks[g.IntN(3)], fmt.Sprintf("retries = %d", g.IntN(4)))
	pools := 1 + g.IntN(3)
	for i := range pools {
		rest += poolOf(fmt.Sprint("comes-", i), some(), picks[g.IntN(3)])
	}
	for i, addr := range g.comes {
		if g.IntN(2) == 0 {
			rest += listenerAt(fmt.Sprint("comes-", i), addr, fmt.Sprint("comes-", g.IntN(pools)))
		}
	}
	text = g.file(1+g.IntN(8), rest, fmt.Sprintf("max_sessions = %d", 10_000+g.IntN(10_000)), fmt.Sprintf("idle_timeout = \"%ds\"", 60+g.IntN(600)))
	switch g.IntN(10) {
	case 0:
		return text[:len(text)/2] + "\n[half", false
	case 1:
		return strings.Replace(text, "pool", "pol", 1), false
	case 2: // an address that is taken
		return text + listenerAt("taken", g.backends[0], "stays"), false
	}
	return text, true
}

// streams are long sessions with bytes of known order in both directions.
type streams struct {
	stopping atomic.Bool
	running  sync.WaitGroup
	moved    atomic.Int64
	mu       sync.Mutex
	faults   []error
}

// begin starts a stream that pauses between blocks, for pause at most.
func (s *streams) begin(t *testing.T, addr string, seed int, pause time.Duration) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(func() {
		defer c.Close()
		if err := s.run(c, uint64(seed), pause); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.faults = append(s.faults, fmt.Errorf("stream %d: %w", seed, err))
		}
	})
}

// run sends random bytes in blocks to an echo, and compares what comes back.
func (s *streams) run(c net.Conn, seed uint64, pause time.Duration) error {
	random, sizes := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), rand.New(rand.NewPCG(seed, 1))
	sent, got := make([]byte, 64<<10), make([]byte, 64<<10)
	for !s.stopping.Load() {
		n := 1 + sizes.IntN(len(sent))
		random.Read(sent[:n])
		c.SetDeadline(time.Now().Add(patience))
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(sent[:n])
			wrote <- err
		}()
		_, err := io.ReadFull(c, got[:n])
		if err := errors.Join(<-wrote, err); err != nil {
			return err
		}
		if !bytes.Equal(sent[:n], got[:n]) {
			return errors.New("other bytes came back")
		}
		s.moved.Add(int64(n))
		time.Sleep(rand.N(pause)) // the pace of the talk
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	switch n, err := io.Copy(io.Discard, c); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("%d bytes too many", n)
	}
	return nil
}

// end ends all, and returns how many bytes they have moved one way.
func (s *streams) end(t *testing.T) int64 {
	t.Helper()
	s.stopping.Store(true)
	s.running.Wait()
	for _, err := range s.faults {
		t.Error(err)
	}
	return s.moved.Load()
}
