package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"sluice/cmd/internal/config"
)

// The level changes at run time, and who asked stands in the log whatever the level: before,
// or behind it.
func TestLogLevel(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		text := func(idle string) string {
			return acceptorsTable(1, "auto") + listenerAt("main", "127.0.0.1:0", "main", "idle_timeout = \""+idle+"\"") + poolOf("main", []string{echoing(t).addr})
		}
		c := startChanging(t, mode, text("10m"))
		ask := func(want int, answer string, args ...string) {
			t.Helper()
			var stdout, stderr bytes.Buffer
			e := env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}
			if status := logCommand(e, args); status != want || !strings.Contains(stdout.String()+stderr.String(), answer) {
				t.Errorf("%v: status %d, %s%s", args, status, &stdout, &stderr)
			}
		}
		who := fmt.Sprintf(`"uid":%d,"pid":%d,"ok":true`, os.Geteuid(), os.Getpid())
		ask(exitOK, "was info and is error", "level", "-socket", c.socket, "error")
		c.tells(`"msg":"log level was asked for","to":"error",`+who, func(n int) bool { return n == 1 })
		ask(exitOK, "was error and is debug", "level", "-socket", c.socket, "debug")
		c.tells(`"msg":"log level was asked for","to":"debug",`+who, func(n int) bool { return n == 1 })
		c.signal(syscall.SIGUSR1) // what it does is logged at level info
		c.tells("access log opened anew", func(n int) bool { return n == 1 })
		c.reload(text("5m"))
		ask(exitOK, "was info and is warn", "level", "warn", "-socket", c.socket)
		ask(exitUsage, `"loud" is no level`, "level", "-socket", c.socket, "loud")
		ask(exitUsage, "LEVEL is missing", "level", "-socket", c.socket)
		ask(exitUsage, "it takes level LEVEL", "levle", "debug")
		ask(exitFault, "no socket at", "level", "-socket", c.socket+"x", "info")
	})
}
