package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"sluice/metrics"
)

// A backend is up as long as a program says so, also where sluice is PID 1 and buries orphans;
// a program that hangs is killed with what it has started.
func TestCommandCheck(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		ill, hangs := filepath.Join(dir, "ill"), filepath.Join(dir, "hangs")
		a, b := namer(t, 'a'), namer(t, 'b')
		script := `[ "$SLUICE_CHECK_ADDRESS" = "$3" ] || exit 0; [ ! -e "$2" ] || sleep 98765; [ ! -e "$1" ] || { echo out of order; exit 4; }`
		path := configFile(t, acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+poolOf("app", []string{a.addr, b.addr})+
			"[pool.app.health]\ncheck = \"command\"\ninterval = \"100ms\"\ntimeout = \"8s\"\nfall = 1\n"+
			fmt.Sprintf("command = %s\n", quoted([]string{"/bin/sh", "-c", script, "sh", ill, hangs, a.addr})))
		s := launch(t, func(cmd *exec.Cmd) {
			if os.Geteuid() == 0 {
				cmd.SysProcAttr.Cloneflags, cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWPID, syscall.CLONE_NEWNS
				cmd.Args = append([]string{"sh", "-c", `mount -t proc proc /proc && exec "$0" "$@"`}, cmd.Args...)
				cmd.Path = "/bin/sh"
			}
		}, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", path)
		s.awaitReady()
		eventually(t, patience, "some checks are made", func() bool { return !s.target(a.addr).Check.Last.IsZero() && s.target(a.addr).Check.Up })
		write(t, ill, "")
		s.awaitState(a.addr, metrics.TargetDown)
		if got := s.target(a.addr).Check.Error; got != `/bin/sh: exit status 4: "out of order"` {
			t.Errorf("its check says %s", got)
		}
		if n := s.metric("sluice_backend_check_failures_total", `reason="other"`) + s.metric("sluice_backend_check_failures_total", fmt.Sprintf("backend=%q", b.addr)); n != 0 {
			t.Errorf("%v checks failed that should not", n)
		}
		for range 6 {
			if got := answeredBy(t, s.addr()); got != 'b' {
				t.Errorf("%q answers", got)
			}
		}
		if err := os.Remove(ill); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, strings.Replace(string(text), `timeout = "8s"`, `timeout = "300ms"`, 1))
		s.signal(syscall.SIGHUP)
		eventually(t, patience, "the reload", func() bool { return s.metric("sluice_config_generation") == 2 })
		write(t, hangs, "") // a check under way may still have its 8 s
		eventually(t, patience, "it hangs", func() bool {
			return s.metric("sluice_backend_check_failures_total", fmt.Sprintf("backend=%q", a.addr), `reason="timeout"`) > 0
		})
		if err := os.Remove(hangs); err != nil {
			t.Fatal(err)
		}
		s.awaitState(a.addr, metrics.TargetUp)
		if status := s.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// A gRPC server that says that it does not serve gets no new sessions.
func TestGRPCCheck(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode string) {
		var ill atomic.Bool
		h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			status := "\x01"
			if body, _ := io.ReadAll(r.Body); string(body) != "\x00\x00\x00\x00\x04\x0a\x02db" || ill.Load() {
				status = "\x02"
			}
			_, _ = io.WriteString(w, "\x00\x00\x00\x00\x02\x08"+status)
			w.Header().Set("Grpc-Status", "0")
		}))
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		h.Config.Protocols = &protocols
		h.Start()
		defer h.Close()
		a, b := namer(t, 'a'), namer(t, 'b')
		port := strings.TrimPrefix(h.Listener.Addr().String(), "127.0.0.1:")
		s := sluice(t, mode, "-c", configFile(t, acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "app")+
			poolOf("app", []string{a.addr, b.addr + " backup"})+healthOf("app", "grpc", `service = "db"`, `start = "down"`, "fall = 1", "port = "+port)))
		s.awaitState(a.addr, metrics.TargetUp)
		ill.Store(true)
		s.awaitState(a.addr, metrics.TargetDown)
		if got := s.target(a.addr).Check.Error; got != "not serving: NOT_SERVING" {
			t.Errorf("its check says %s", got)
		}
	})
}
