package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// TestMain lets this test binary be sluice itself: a service under test is a real
// process, built with the same flags (the race detector included) as the test. Its
// variable does not begin with SLUICE_: those are sluice's own, and checked.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_SLUICE_MAIN") == "1" {
		main()
	}
	if text := os.Getenv(throngVariable); text != "" {
		var c throng
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		c.be()
		return
	}
	os.Exit(m.Run())
}

// modes runs a test body once per acceptor mode. A new mode joins by one line. In the race
// pass it is the first alone: there all share one memory, and where the other differs are
// package host's own tests.
func modes(t *testing.T, body func(t *testing.T, mode string)) {
	all := []string{"goroutine", "process"}
	if testing.Short() && raced() {
		all = all[:1]
	}
	for _, mode := range all {
		t.Run(mode, func(t *testing.T) { body(t, mode) })
	}
}

// modesTogether runs them at the same time: for tests that wait much and measure nothing.
func modesTogether(t *testing.T, body func(t *testing.T, mode string)) {
	modes(t, func(t *testing.T, mode string) {
		t.Parallel()
		body(t, mode)
	})
}

// instance is a sluice process under test. It is ended with the test.
type instance struct {
	t     *testing.T
	cmd   *exec.Cmd
	admin string            // address of its admin endpoint
	addrs map[string]string // listener name to address
	ended chan struct{}     // closed once it has been waited for

	mu  sync.Mutex
	log bytes.Buffer
}

// startWithin bounds a start, stopWithin an end that nothing should delay.
const (
	startWithin = 20 * time.Second
	stopWithin  = 20 * time.Second
)

// sluice starts the real program with args, an admin endpoint on a free port and a
// JSON log, and waits until it is ready.
func sluice(t *testing.T, mode string, args ...string) *instance {
	t.Helper()
	s := launch(t, nil, append([]string{"run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	s.awaitReady()
	return s
}

// launch starts the program with exactly args; prepare may change the command first.
func launch(t *testing.T, prepare func(*exec.Cmd), args ...string) *instance {
	t.Helper()
	s := &instance{t: t, addrs: map[string]string{}, ended: make(chan struct{})}
	s.cmd = exec.Command(os.Args[0], args...)
	s.cmd.Env = append(os.Environ(), "TEST_SLUICE_MAIN=1", "GORACE=atexit_sleep_ms=0") // else each process under -race ends a second late
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if prepare != nil {
		prepare(s.cmd)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.collect(stderr)
		_ = s.cmd.Wait() // its state stands in s.cmd.ProcessState
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if strings.Contains(s.logged(), "WARNING: DATA RACE") {
			t.Error("a data race")
		}
		if t.Failed() {
			t.Logf("log of sluice %s:\n%s", strings.Join(args, " "), s.logged())
		}
	})
	return s
}

// collect keeps the log and reads the addresses out of it.
func (s *instance) collect(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Msg, Listener, Address, Admin string }
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		if json.Unmarshal(lines.Bytes(), &entry) == nil {
			switch entry.Msg {
			case "listening":
				s.addrs[entry.Listener] = entry.Address
			case "ready":
				s.admin = entry.Admin
			}
		}
		s.mu.Unlock()
	}
}

func (s *instance) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// tells waits until the log has a text as often as that: it is written by a goroutine of
// its own, a moment after what it tells of.
func (s *instance) tells(text string, times func(n int) bool) {
	s.t.Helper()
	eventually(s.t, stopWithin, "in the log: "+text, func() bool { return times(strings.Count(s.logged(), text)) })
}

func (s *instance) awaitReady() {
	s.t.Helper()
	eventually(s.t, startWithin, "ready", func() bool {
		select {
		case <-s.ended:
			s.t.Fatalf("sluice ended before it was ready:\n%s", s.logged())
		default:
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.admin != ""
	})
}

// addr is the address of the listener that flags make.
func (s *instance) addr() string { return s.addrs["main"] }

// get reads a page of the admin endpoint.
func (s *instance) get(path string) (status int, body string) {
	s.t.Helper()
	c := http.Client{Timeout: 10 * time.Second}
	r, err := c.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// status is /status.json.
func (s *instance) status() (out metrics.Snapshot) {
	s.t.Helper()
	_, body := s.get("/status.json")
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		s.t.Fatalf("status.json: %v", err)
	}
	return out
}

// metric sums the series of a metric whose line holds every one of labels, each
// written as name="value".
func (s *instance) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	_, body := s.get("/metrics")
next:
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		var v float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err != nil {
			s.t.Fatalf("metrics: %q: %v", line, err)
		}
		sum += v
	}
	return sum
}

// signal sends the program a signal.
func (s *instance) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the program by SIGTERM and returns its exit status.
func (s *instance) stop() int {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	return s.wait(stopWithin)
}

// wait returns the exit status.
func (s *instance) wait(within time.Duration) int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(within):
		s.t.Fatalf("sluice did not end within %v", within)
	}
	return s.cmd.ProcessState.ExitCode()
}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
