package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"sluice/cmd/internal/config"
)

// What a person sees at a glance, in both modes, is what /status.json says.
func TestStatus(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		live := echoing(t).addr
		nobody, _ := absent(t)
		text := acceptorsTable(2, "auto") + listenerAt("web", "127.0.0.1:0", "app", "") +
			poolOf("app", []string{live, nobody}, "retries = 1", "[pool.app.health]", `interval = "200ms"`)
		c := startChanging(t, mode, text)
		ask := func(want int, args ...string) string {
			t.Helper()
			var stdout, stderr bytes.Buffer
			e := env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}
			if got := status(e, args); got != want {
				t.Errorf("%v: status %d, %s", args, got, &stderr)
			}
			return stdout.String() + stderr.String()
		}
		shows := func(pattern string) {
			t.Helper()
			seen := ""
			eventually(t, patience, pattern, func() bool {
				seen = ask(exitOK, "-socket", c.socket)
				return regexp.MustCompile("(?m)" + pattern).MatchString(seen)
			})
			if t.Failed() {
				t.Log(seen)
			}
		}
		held := dial(t, c.addrs["web"])
		send(t, held, "x")
		expect(t, held, "x")
		shows(`^sluice .*, ready for \d+s, mode ` + mode + `, generation 1 of the configuration$`)
		shows(`^web +127\.0\.0\.1:\d+ +app +\w+ +1 +1 `)
		shows(`^1 +\d+ +accepting +[01]$`)
		shows(`^` + regexp.QuoteMeta(live) + ` +app +` + regexp.QuoteMeta(live) + ` +up +\d+s +1 +1 +0`)
		shows(`^` + regexp.QuoteMeta(nobody) + ` +app .* down .* its check: .*refused`)

		c.write(strings.Replace(text, "web", "web]", 1))
		c.ask()
		shows(`^the last reload, \d+s ago, changed nothing: `)

		var all struct {
			Mode string `json:"mode"`
		}
		if err := json.Unmarshal([]byte(ask(exitOK, "-json", "-socket", c.socket)), &all); err != nil || all.Mode != mode {
			t.Errorf("%v, mode %q", err, all.Mode)
		}
		if said := ask(exitFault, "-socket", c.socket+"x"); !strings.Contains(said, "no socket at") {
			t.Error(said)
		}
	})
}
