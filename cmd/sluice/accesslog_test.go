package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sluice/metrics/journal"
)

// accessLine is what a line of the access log says.
type accessLine struct {
	Time, Level, Event, ID, Listener, Client, Local, Pool, Backend, Address, Path, Reason string

	Code       string `json:"close_code"`
	Acceptor   int
	Worker     int
	BytesIn    int     `json:"bytes_in"`
	BytesOut   int     `json:"bytes_out"`
	DurationMS float64 `json:"duration_ms"`
	Partial    bool
	Sessions   int
	Lines      int
}

// accessLines reads files of the access log.
func accessLines(t *testing.T, paths ...string) (all []accessLine) {
	t.Helper()
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.Lines(string(b)) {
			var l accessLine
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			all = append(all, l)
		}
	}
	return all
}

// logTable is the [log] of a configuration.
func logTable(access, to string, lines ...string) string {
	return fmt.Sprintf("[log]\naccess = %q\naccess_to = %q\n%s\n", access, to, strings.Join(lines, "\n"))
}

// shortSession has a short session, and returns the client's address.
func shortSession(t *testing.T, addr, text string) string {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	send(t, c, text)
	expect(t, c, text)
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	expectEnd(t, c)
	return c.LocalAddr().String()
}

// Every session has one line, with its figures, though the file is renamed away again and
// again while they run.
func TestAccessLogIsRotated(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		const visitors, each, rotations = 4, 60, 5
		dir := t.TempDir()
		path := filepath.Join(dir, "access.log")
		backend := echoing(t).addr
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(3, "auto")+logTable("all", path)+
			listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{backend})))
		clients := make(map[string]int)
		var mu sync.Mutex
		var all sync.WaitGroup
		for range visitors {
			all.Go(func() {
				for i := range each {
					client := shortSession(t, s.addr(), strings.Repeat("x", i+1))
					mu.Lock()
					clients[client]++
					mu.Unlock()
				}
			})
		}
		paths := []string{path}
		for i := range rotations {
			old := fmt.Sprintf("%s.%d", path, i)
			if err := os.Rename(path, old); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, old)
			s.signal(syscall.SIGUSR1)
			s.tells("access log opened anew", func(n int) bool { return n == i+1 })
		}
		all.Wait()
		if n := s.metric("sluice_access_log_dropped_total"); n != 0 {
			t.Errorf("%v lines were lost", n)
		}
		if status := s.stop(); status != exitOK {
			t.Errorf("status %d", status)
		}
		ids, bytes := map[string]bool{}, 0
		for _, l := range accessLines(t, paths...) {
			clients[l.Client]--
			if id, err := journal.ParseID(l.ID); err != nil || ids[l.ID] || id.Seat() != l.Acceptor {
				t.Errorf("session %q: %v", l.ID, err)
			}
			ids[l.ID] = true
			bytes += l.BytesIn
			if want := map[string]int{"goroutine": 0, "process": l.Acceptor}[mode]; l.Worker != want {
				t.Errorf("worker %d of acceptor %d", l.Worker, l.Acceptor)
			}
			if l.Event != "closed" || l.Level != "info" || l.Listener != "main" || l.Local != s.addr() || l.Pool != "main" || l.Backend != backend ||
				l.Address != backend || l.BytesIn != l.BytesOut || l.Reason != "client_eof" || l.Code != "--" || l.Path == "" || l.DurationMS <= 0 {
				t.Errorf("%+v", l)
			}
		}
		for client, n := range clients {
			if n != 0 {
				t.Errorf("client %s: %d sessions without a line", client, n)
			}
		}
		if want := visitors * each * (each + 1) / 2; bytes != want || len(ids) != visitors*each {
			t.Errorf("%d sessions, %d bytes; want %d, %d", len(ids), bytes, visitors*each, want)
		}
	})
}

// What a worker has written down before it is killed is read, and the sessions that went
// with it have a line.
func TestAccessLogOfADeadWorker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	s := sluice(t, "process", "-c", configFile(t, acceptorsTable(2, "round_robin")+logTable("all", path)+
		listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{echoing(t).addr})))
	const ended, held = 40, 10
	for range ended {
		shortSession(t, s.addr(), "x")
	}
	for range held {
		if !talks(dial(t, s.addr())) {
			t.Fatal("a session does not talk")
		}
	}
	eventually(t, patience, "sessions are counted", func() bool {
		return int(s.metric("sluice_listener_closed_connections_total")) == ended
	})
	for _, w := range s.awaitWorkers() {
		kill(t, w.PID, syscall.SIGKILL)
	}
	eventually(t, patience, "the dead workers' sessions are counted", func() bool { return s.died() == held })
	s.awaitWorkers()
	shortSession(t, s.addr(), "x")
	s.stop()
	well, died := 0, 0
	for _, l := range accessLines(t, path) {
		switch {
		case l.Reason == "client_eof":
			well++
		case l.Reason == "worker_died" && l.Listener == "main" && l.Code == "ID" && l.Level == "warn":
			died += l.Sessions
		default:
			t.Errorf("%+v", l)
		}
	}
	if well != ended+1 || died != held {
		t.Errorf("%d ended and %d died; want %d and %d", well, died, ended+1, held)
	}
}

// All of it changes while sessions run; a file that can't be opened changes nothing.
func TestAccessLogReloads(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		one, two := filepath.Join(dir, "one.log"), filepath.Join(dir, "two.log")
		rest := acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "main") + poolOf("main", []string{echoing(t).addr}) +
			listenerAt("dead", "127.0.0.1:0", "dead") + poolOf("dead", []string{refusing(t)})
		c := startChanging(t, mode, rest)
		lines := func(path string, n int) []accessLine {
			t.Helper()
			eventually(t, patience, fmt.Sprintf("%d lines", n), func() bool {
				_, err := os.Stat(path)
				return err == nil && len(accessLines(t, path)) >= n
			})
			return accessLines(t, path)
		}
		older := dial(t, c.addr())
		if !talks(older) {
			t.Fatal("it does not talk")
		}
		shortSession(t, c.addr(), "before")
		c.reload(logTable("all", one, "access_start = true") + rest)
		older.Close()
		if l := lines(one, 1)[0]; !l.Partial || l.Event != "closed" || l.Client != older.LocalAddr().String() || l.Backend == "" {
			t.Errorf("one that began before: %+v", l)
		}
		client := shortSession(t, c.addr(), "now")
		if l := lines(one, 3); l[1].Event != "connected" || l[2].Event != "closed" || l[1].ID != l[2].ID || l[2].Client != client || l[2].BytesIn != 3 {
			t.Errorf("%+v", l)
		}
		c.write(logTable("all", "/no/such/directory/access.log") + rest)
		if status, _, faults := c.ask(); status != exitFault || !strings.Contains(faults, "/no/such/directory") {
			t.Errorf("status %d: %s", status, faults)
		}
		c.reload(logTable("errors", two) + rest)
		shortSession(t, c.addr(), "well")
		expectRefusal(t, c.addrs["dead"])
		if l := lines(two, 1)[0]; l.Listener != "dead" || l.Reason != "connect_failed" || l.Code != "SC" || l.Level != "warn" {
			t.Errorf("%+v", l)
		}
		c.reload(logTable("off", two) + rest)
		expectRefusal(t, c.addrs["dead"])
		c.stop()
		if n := len(accessLines(t, one)); n != 3 {
			t.Errorf("%d lines in the first file", n)
		}
		if n := len(accessLines(t, two)); n != 1 {
			t.Errorf("%d lines in the second file", n)
		}
	})
}

// Standard output is not read: clients are served all the same, and what was lost is
// counted to the line.
func TestAccessLogWithoutReader(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		const sessions, line = 2500, 4 << 10 // more than the 8 MiB that are kept
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		s := launch(t, func(c *exec.Cmd) { c.Stdout = in }, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", configFile(t,
			acceptorsTable(2, "auto")+logTable("all", "stdout", fmt.Sprintf("access_format = %q", strings.Repeat("x", line)+" {id}"))+
				listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{echoing(t).addr})))
		in.Close()
		s.awaitReady()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range sessions / 4 {
					c, err := net.Dial("tcp", s.addr())
					if err != nil {
						t.Error(err)
						return
					}
					if !talks(c.(*net.TCPConn)) {
						t.Error("a session does not talk")
					}
					c.Close()
				}
			})
		}
		all.Wait()
		eventually(t, patience, "all have their line", func() bool { return s.metric("sluice_access_log_lines_total") == sessions })
		eventually(t, patience, "losses", func() bool { return s.metric("sluice_access_log_dropped_total") > 0 })
		read := make(chan string)
		go func() {
			text, _ := io.ReadAll(out)
			read <- string(text)
		}()
		if status := s.stop(); status != exitOK {
			t.Errorf("status %d", status)
		}
		text := <-read
		written, lost := 0, 0
		for l := range strings.Lines(text) {
			if n := 0; strings.HasPrefix(l, "# ") {
				fmt.Sscanf(l, "# %d lines were lost", &n)
				lost += n
			} else if len(l) > line && strings.HasSuffix(l, "\n") {
				written++
			}
		}
		if lost == 0 || written+lost != sessions {
			t.Errorf("%d written and %d lost of %d", written, lost, sessions)
		}
	})
}
