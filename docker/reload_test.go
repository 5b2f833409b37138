package docker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testReload changes the file in a mounted directory, and has it taken by each of the
// ways there are.
func (e engine) testReload(t *testing.T) {
	dir, backend := t.TempDir(), startEcho(t)
	change := func(count int, watch bool) {
		beside, file := filepath.Join(dir, "new"), filepath.Join(dir, "sluice.toml")
		write(t, beside, fmt.Sprintf(`
[acceptors]
count = %d
[reload]
watch = %v
[listener.main]
bind = "127.0.0.1:0"
pool = "main"
[pool.main]
backends = [%q]
`, count, watch, backend))
		if err := os.Rename(beside, file); err != nil {
			t.Fatal(err)
		}
	}
	change(1, false)
	c := e.start(t, "reloaded", "", append(unprivileged, "--env=SLUICE_LISTEN=", "--env=SLUICE_ADMIN="+freeAddress(t),
		"--env=SLUICE_CONFIG=/etc/sluice/sluice.toml", "--volume="+dir+":/etc/sluice:ro")...)
	expect := func(count int) {
		t.Helper()
		eventually(t, 20*time.Second, fmt.Sprintf("there are %d acceptors", count), func() bool { return len(c.status(t).Acceptors) == count })
	}
	change(2, false)
	if said := e.docker(t, "exec", c.name, "/sluice", "reload"); !strings.Contains(said, "acceptors.count: 1 -> 2") {
		t.Errorf("reload: %s", said)
	}
	expect(2)
	change(3, true)
	e.docker(t, "kill", "--signal=HUP", c.name)
	expect(3)
	change(4, true)
	expect(4)
	if err := talk(c.addr); err != nil {
		t.Error(err)
	}
}

// testSocket runs with what the image has alone. There is nothing to read again, and
// that answer comes through the socket.
func (e engine) testSocket(t *testing.T) {
	c := e.start(t, "plain", startEcho(t), "--network=host", "--env=SLUICE_ADMIN="+freeAddress(t))
	said, err := exec.CommandContext(t.Context(), e.client, "--host="+e.socket, "exec", c.name, "/sluice", "reload").CombinedOutput()
	if err == nil || !strings.Contains(string(said), "in force: generation 1") {
		t.Errorf("reload: %v: %s", err, said)
	}
}

// testNoAdmin asks for a health that can't be told.
func (e engine) testNoAdmin(t *testing.T) {
	said, err := exec.CommandContext(t.Context(), e.client, "--host="+e.socket, "run", "--rm", "--network=none", "--env=SLUICE_ADMIN=", "sluice:local", "healthcheck").CombinedOutput()
	if err == nil || !strings.Contains(string(said), "there is nothing to ask") {
		t.Errorf("healthcheck: %v: %s", err, said)
	}
}
