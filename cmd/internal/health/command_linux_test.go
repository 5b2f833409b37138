package health

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/metrics"
	"sluice/proxy/pool"
)

// commanded runs one check of a backend by a script.
func commanded(t *testing.T, timeout time.Duration, script string, args ...string) outcome {
	t.Helper()
	return asked(t, "10.1.2.3:5432", func(p *config.Pool) {
		p.Health.Check, p.Health.Timeout, p.Health.Command = config.CheckCommand, timeout, append([]string{"/bin/sh", "-c", script, "sh"}, args...)
	})
}

func TestCommand(t *testing.T) {
	t.Setenv("SLUICE_LISTEN", ":80")
	t.Setenv("PGPASSWORD", "secret")
	well(t, commanded(t, time.Minute, "exit 0"))
	well(t, commanded(t, time.Minute, `[ "$1" = "a  b;c" ]`, "a  b;c"))
	well(t, commanded(t, time.Minute, `[ "$SLUICE_CHECK_POOL $SLUICE_CHECK_BACKEND $SLUICE_CHECK_ADDRESS $SLUICE_CHECK_IP $SLUICE_CHECK_PORT" = "app 10.1.2.3:5432 10.1.2.3:5432 10.1.2.3 5432" ]`))
	well(t, commanded(t, time.Minute, `[ -z "$SLUICE_LISTEN" ] && [ "$PGPASSWORD" = secret ]`))
	well(t, commanded(t, time.Minute, `[ -z "$(cat)" ]`)) // nothing to read
	well(t, commanded(t, time.Minute, "head -c 1000000 /dev/zero"))
	fails(t, commanded(t, time.Minute, "echo no replica; exit 3"), metrics.CheckStatus, `/bin/sh: exit status 3: "no replica"`)
	fails(t, commanded(t, time.Minute, "kill -9 $$"), metrics.CheckStatus, "signal: killed")

	p := config.DefaultPool("app")
	p.Health.Check, p.Health.Port, p.Health.Command = config.CheckCommand, 9, []string{"/bin/sh", "-c", `[ "$SLUICE_CHECK_ADDRESS" = "[::1]:9" ]`}
	well(t, newCheck(p, nil, (*exec.Cmd).Run).probe(context.Background(), pool.Target{Backend: "db:80", Addr: netip.MustParseAddrPort("[::1]:80")}))
}

// At the end of its time it is killed, with those that it has started.
func TestCommandIsKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	begin := time.Now()
	o := commanded(t, 500*time.Millisecond, `sleep 1000 & echo $! > "$1"; wait`, file)
	fails(t, o, metrics.CheckTimeout, "/bin/sh: killed after 500ms")
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	wantGone(t, file)

	// One that has ended in order leaves no process behind that holds its output.
	well(t, commanded(t, time.Minute, `sleep 1000 & echo $! > "$1"`, file))
	wantGone(t, file)
}

// wantGone wants the process whose number is in a file to end.
func wantGone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") { // no process here buries it
			return
		}
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d lives: %s", pid, stat)
		}
	}
}

// What cannot be started says nothing of the backend.
func TestCommandThatIsNotThere(t *testing.T) {
	for _, path := range []string{"/no/such/check", t.TempDir()} {
		o := asked(t, "10.1.2.3:5432", func(p *config.Pool) { p.Health.Check, p.Health.Command = config.CheckCommand, []string{path} })
		if o.err == nil || !lacking(o.err) {
			t.Errorf("%s: %v", path, o.err)
		}
	}
}

// Of a thousand that are due together few run at a time, and to wait costs none its timeout.
func TestFewCommandsRunAtATime(t *testing.T) {
	const targets = 4 * maxCommands
	var running, most, done atomic.Int32
	k := New(Options{Log: slog.New(slog.DiscardHandler), Weights: make([]metrics.Gauge, targets), Run: func(*exec.Cmd) error {
		n := running.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		time.Sleep(5 * time.Millisecond) // what a command takes
		running.Add(-1)
		done.Add(1)
		return nil
	}})
	k.Commit([]Pool{poolOf(0, targets, func(p *config.Pool) {
		p.Health.Check, p.Health.Command, p.Health.Interval = config.CheckCommand, []string{"/bin/true"}, time.Hour
		p.Health.Timeout = time.Minute
	})})
	k.Start()
	defer k.Close()
	for end := time.Now().Add(30 * time.Second); done.Load() < targets; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d are done", done.Load(), targets)
		}
	}
	if n := most.Load(); n > maxCommands {
		t.Errorf("%d ran at a time", n)
	}
	if targets, _ := k.Snapshot(); !targets[idOf(0)].Check.Up {
		t.Errorf("%+v", targets[idOf(0)])
	}
}
