package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// [admin] metrics is live: after a reload /metrics has no histogram of a backend any more,
// and no reason that counts 0.
func TestCompactMetrics(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		text := func(metrics string) string {
			return fmt.Sprintf(`
[admin]
metrics = %q
[listener.main]
bind = "127.0.0.1:0"
pool = "main"
[pool.main]
backends = ["127.0.0.1:9"]
`, metrics)
		}
		path := configFile(t, text("full"))
		s := sluice(t, mode, "--acceptors", "2", "-c", path)
		shown := func() bool {
			_, body := s.get("/metrics")
			return strings.Contains(body, "sluice_backend_connect_duration_seconds") || strings.Contains(body, `reason="client_eof"`)
		}
		if !shown() {
			t.Error("not shown with full")
		}
		if err := os.WriteFile(path, []byte(text("compact")), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signal(syscall.SIGHUP)
		eventually(t, patience, "metrics are compact", func() bool { return !shown() })
		if s.metric("sluice_ready") != 1 {
			t.Error("other series have gone, too")
		}
	})
}
