package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/metrics"
)

func TestReloadPrintsTheVerdict(t *testing.T) {
	verdict := admin.Verdict{OK: true, Text: "reloaded", Generation: 3, SHA256: "abc", Changes: []string{"live: log.level", "rebind: listener.web.bind"}}
	srv := admin.New(admin.Options{
		Snapshot: func() metrics.Snapshot { return metrics.Snapshot{} }, Log: slog.New(slog.DiscardHandler),
		Reload: func(_ context.Context, dryRun bool) admin.Verdict {
			v := verdict
			if dryRun {
				v.Text = "this would change"
			}
			return v
		},
	})
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := admin.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	go srv.ServeSocket(ln)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		srv.Close(ctx)
	}()
	ask := func(want int, stdout, stderr string, args ...string) {
		t.Helper()
		var out, faults bytes.Buffer
		e := env{stdout: &out, stderr: &faults, vars: config.Environment{"SLUICE_ADMIN_SOCKET": path}}
		if status := reload(e, args); status != want || out.String() != stdout || faults.String() != stderr {
			t.Errorf("status %d, %q, %q; want %d, %q, %q", status, &out, &faults, want, stdout, stderr)
		}
	}
	rest := "\nlive: log.level\nrebind: listener.web.bind\nin force: generation 3, sha256 abc\n"
	ask(exitOK, "reloaded"+rest, "")
	ask(exitOK, "this would change"+rest, "", "-dry-run", "-socket", path, "-c", "sluice.toml")
	verdict = admin.Verdict{Text: "sluice.toml:1:1: x: unknown key", Generation: 3}
	ask(exitFault, "", "sluice.toml:1:1: x: unknown key\nin force: generation 3\n")
	ask(exitFault, "", "sluice reload: no answer from "+path+" in time\n", "-timeout", "1ns")
}

func TestSocketPath(t *testing.T) {
	env := config.Environment{"SLUICE_ADMIN_SOCKET": "/variable"}
	if path, err := socketPath("/flag", config.Flags{}, env); path != "/flag" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if path, err := socketPath("", config.Flags{}, env); path != "/variable" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := socketPath("", config.Flags{}, config.Environment{"SLUICE_ADMIN": ""}); err == nil || !strings.Contains(err.Error(), "-socket") {
		t.Errorf("%v", err)
	}
}
