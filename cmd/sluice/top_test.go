package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// topScene is two looks, a second from each other, at a service of many.
func topScene(t *testing.T, listeners, acceptors, backends int) *screen {
	t.Helper()
	board, err := metrics.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	topology := metrics.Topology{
		Service: metrics.Service{Mode: "goroutine", Started: start.Add(-time.Hour), Ready: true, Config: metrics.Config{Generation: 3, Reload: metrics.Reload{Succeeded: true}}},
		Workers: []metrics.Worker{{State: metrics.WorkerRunning, PID: 7, CPUSeconds: 1}},
		Health:  map[metrics.ID]metrics.Health{},
	}
	var seats []int
	for i := range acceptors {
		seats = append(seats, i)
		topology.Acceptors = append(topology.Acceptors, metrics.Acceptor{Number: i})
		board.Acceptor(i).Accepting.Store(1)
	}
	var ids []metrics.ID
	for i := range listeners {
		id := metrics.NewID(uint32(i), 1)
		board.OpenListener(id)
		ids = append(ids, id)
		topology.Listeners = append(topology.Listeners, metrics.Listener{ID: id, Name: fmt.Sprint("listener-of-many-", i), Address: "127.0.0.1:80", Pool: "app", Steering: metrics.Steering{Effective: "least"}})
	}
	pool := metrics.Pool{ID: metrics.NewID(0, 1), Name: "app"}
	for i := range backends {
		id := metrics.NewID(uint32(i), 1)
		board.OpenTarget(id)
		name := fmt.Sprintf("backend-%04d.example:80", i)
		pool.Backends = append(pool.Backends, metrics.Backend{Name: name, Weight: 1, Targets: []metrics.Target{{ID: id, Address: name}}})
		h := metrics.Health{State: metrics.TargetUp, Since: start}
		if i == backends-1 {
			h.State, h.Check = metrics.TargetDown, &metrics.Check{Error: "connection refused"}
		}
		topology.Health[id] = h
		board.Target(0, id).Active.Store(int64(i))
	}
	topology.Pools = []metrics.Pool{pool}
	var window metrics.Window
	window.Sample(board, ids, seats, start)
	s := &screen{}
	for look := range 2 {
		for _, id := range ids {
			for seat := range seats {
				board.Listener(seat, id).Accepted.Add(10)
				board.Listener(seat, id).Active.Store(int64(seat))
			}
		}
		s.put(metrics.TakeSnapshot(board, &window, topology, start.Add(time.Duration(look+1)*time.Second)))
	}
	return s
}

func (s *screen) text(width, height int) string {
	var b strings.Builder
	for _, l := range s.lines(width, height) {
		fmt.Fprintln(&b, l.text)
	}
	return b.String()
}

// Whatever there is to show, and however small the terminal, the screen fits.
func TestTopFits(t *testing.T) {
	for _, of := range [][3]int{{1, 1, 0}, {1, 4, 3}, {3, 4, 8}, {200, 64, 1000}} {
		s := topScene(t, of[0], of[1], of[2])
		for _, size := range [][2]int{{80, 24}, {40, 10}, {20, 5}, {1, 1}, {200, 60}, {80, 2}, {80, 3}} {
			for _, key := range []string{"", "s", "r", "\t", " ", "s", "p", "l", "?", "?", "b", "S"} {
				s.key(key)
				lines := s.lines(size[0], size[1])
				if len(lines) != size[1] {
					t.Fatalf("%v at %v after %q: %d lines", of, size, key, len(lines))
				}
				for _, l := range lines {
					if shown := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(l.styled(size[0]), ""); len([]rune(shown)) > size[0] {
						t.Fatalf("%v at %v: %q", of, size, shown)
					}
				}
			}
		}
	}
}

// What needs a look stands first, sort keys change that, and the choice of a listener holds
// for the figures of all panes.
func TestTopOrder(t *testing.T) {
	s := topScene(t, 2, 4, 30)
	text := s.text(80, 24)
	for _, want := range []string{
		`(?m)^sluice  ready for 1h0m  0 held  80 accepts/s `, `(?m)^ listener-of~ even \(1\.00x\) +40 +6 +0  least`,
		`(?m)^ +0 +0 accepting +0 +0 +20  25\.0% +=+\|$`, `(?m)^ \*STATE.* 1-\d+ of 30$`, `(?m)^ DOWN +backend-0029.example~ .*  29 +0 +0 its check:`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	s.key("\t")
	for range 3 {
		s.key("s")
	}
	if text := s.text(80, 24); !regexp.MustCompile(`(?m)^>STATE.*\*HELD.*\n DOWN +backend-0029`).MatchString(text) {
		t.Errorf("most held first:\n%s", text)
	}
	s.key("r")
	if text := s.text(80, 24); !regexp.MustCompile(`(?m)^>STATE.*\*HELD.*\n up +backend-0000`).MatchString(text) {
		t.Errorf("fewest held first:\n%s", text)
	}
	s.key("l")
	if text := s.text(80, 24); strings.Count(text, "listener-of~") != 1 || !strings.Contains(text, " 40 accepts/s") {
		t.Errorf("one listener:\n%s", text)
	}
	s.key(" ")
	if text := s.text(80, 24); strings.Contains(text, "backend-0000") {
		t.Errorf("the next page:\n%s", text)
	}
}

// Routes stand between acceptors and backends, the busiest first; without them there is no
// such pane, and Tab does not stop there.
func TestTopRoutes(t *testing.T) {
	s := topScene(t, 2, 4, 30)
	if text := s.text(100, 40); strings.Contains(text, "ROUTE") {
		t.Errorf("without routes:\n%s", text)
	}
	s.key("\t")
	if s.pane != paneBackends {
		t.Errorf("Tab goes to pane %d", s.pane)
	}
	s.key("\t")
	const routes = 1000
	for look, snapshot := range []*metrics.Snapshot{&s.before, &s.now} {
		for i := range routes {
			r := metrics.Route{ID: metrics.NewID(uint32(i), 1), Name: fmt.Sprintf("site-%03d", i), Pool: "app", On: "sni site.example.com", Active: int64(i % 7)}
			r.Sessions, r.Received, r.Sent = uint64(look*i), uint64(look*1000*i), uint64(look*9000*i)
			snapshot.Listeners[1].Routes = append(snapshot.Listeners[1].Routes, r)
		}
	}
	for _, want := range []string{`(?m)^ \*BYTES/S ROUTE .* 1-\d+ of 1000$`, `(?m)^ +10\.0 MB site-999 at listener~ +5 +999 +999 kB +9.0 MB app +sni site`, `(?m)^ \*STATE.* 1-\d+ of 30$`} {
		if text := s.text(100, 40); !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	s.key("\t")
	s.key("s")
	if text := s.text(100, 40); !regexp.MustCompile(`(?m)^> BYTES/S \*ROUTE .*\n +0 B site-000 at listener~`).MatchString(text) {
		t.Errorf("by name:\n%s", text)
	}
	s.key("l")
	if text := s.text(100, 40); strings.Contains(text, "ROUTE") {
		t.Errorf("of a listener without routes:\n%s", text)
	}
	s.key("l")
	if text := s.text(100, 40); !regexp.MustCompile(`(?m)^ +0 B site-000 `).MatchString(text) {
		t.Errorf("of a listener with routes:\n%s", text)
	}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {20, 5}, {1, 1}, {80, 2}, {80, 3}, {300, 100}} {
		if n := len(s.lines(size[0], size[1])); n != size[1] {
			t.Errorf("at %v: %d lines", size, n)
		}
	}
}

// terminal is a tmux with one window.
type terminal struct {
	t      *testing.T
	tmux   string
	socket string
}

// openTerminal runs the program in a window of that size.
func openTerminal(t *testing.T, width, height int, args ...string) *terminal {
	t.Helper()
	w := &terminal{t, need(t, "tmux", "tmux"), filepath.Join(t.TempDir(), "tmux")}
	command := append([]string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "-e", "TEST_SLUICE_MAIN=1", os.Args[0]}, args...)
	w.do(command...)
	t.Cleanup(func() { _ = exec.Command(w.tmux, "-S", w.socket, "kill-server").Run() }) // it has ended if the program has
	return w
}

func (w *terminal) do(args ...string) string {
	w.t.Helper()
	out, err := exec.Command(w.tmux, append([]string{"-S", w.socket}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("tmux %v: %v, %s", args, err, out)
	}
	return string(out)
}

func (w *terminal) shows(pattern string) {
	w.t.Helper()
	seen := ""
	eventually(w.t, patience, pattern, func() bool {
		seen = w.do("capture-pane", "-p")
		return regexp.MustCompile("(?m)" + pattern).MatchString(seen)
	})
}

// In a terminal: it shows what there is, follows keys, sizes and a restart, and leaves the
// terminal as it was.
func TestTop(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		live := echoing(t).addr
		nobody, _ := absent(t)
		text := acceptorsTable(2, "auto") + listenerAt("web", "127.0.0.1:0", "app", "") +
			poolOf("app", []string{live, nobody}, "retries = 1", "[pool.app.health]", `interval = "200ms"`)
		c := startChanging(t, mode, text)
		held := dial(t, c.addrs["web"])
		send(t, held, "x")
		expect(t, held, "x")
		w := openTerminal(t, 80, 24, "top", "-socket", c.socket, "-interval", "100ms")
		w.shows(`^sluice  ready for .*  1 held  `)
		w.shows(`^ web +even \(\d\.\d\dx\) +0 +1 +0  `)
		w.shows(`^ +1 +\d+ (accepting|at rest) `)
		w.shows(`^ DOWN +` + regexp.QuoteMeta(nobody) + ` `)
		w.shows(`^ up +` + regexp.QuoteMeta(live) + ` +\d+\w+ +1 +0 +0`)
		w.shows(`^Tab pane`)
		w.do("send-keys", "?")
		w.shows(`^q: end|this help;  q: end`)
		w.do("send-keys", "?", "Tab", "s")
		w.shows(`^>STATE +\*BACKEND`)
		w.do("resize-window", "-x", "140", "-y", "12")
		w.shows(`^ DOWN .*its check: .*refused`)
		w.shows(`\A(.*\n){11}Tab pane`)
		held.Close()
		c.stop()
		w.shows(`^NO ANSWER, figures of \d\d:\d\d:\d\d: no socket at`)
		again := sluice(t, mode, "-c", c.path, "--admin-socket", c.socket)
		w.shows(`^sluice  ready for .*  0 held  `)
		w.do("send-keys", "q")
		eventually(t, patience, "it has ended", func() bool { return exec.Command(w.tmux, "-S", w.socket, "has-session").Run() != nil })
		again.stop()
	})
}

// Without a terminal it says what to use instead.
func TestTopWithoutTerminal(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if got := top(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, nil); got != exitFault || !strings.Contains(stderr.String(), "sluice status") {
		t.Errorf("%d: %s", got, &stderr)
	}
}
