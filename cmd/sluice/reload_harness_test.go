package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/cmd/internal/config"
)

// changing is a sluice with a file and an admin socket, which is changed while it runs.
type changing struct {
	*instance
	path, socket string
}

// startChanging starts one. args are added to its command line.
func startChanging(t *testing.T, mode, text string, args ...string) *changing {
	t.Helper()
	c := &changing{path: configFile(t, text), socket: filepath.Join(t.TempDir(), "admin.sock")}
	c.instance = sluice(t, mode, append([]string{"-c", c.path, "--admin-socket", c.socket}, args...)...)
	return c
}

// write replaces the file at once.
func (c *changing) write(text string) {
	c.t.Helper()
	beside := c.path + ".new"
	write(c.t, beside, text)
	if err := os.Rename(beside, c.path); err != nil {
		c.t.Fatal(err)
	}
}

// ask runs "sluice reload".
func (c *changing) ask(args ...string) (status int, out, faults string) {
	var stdout, stderr bytes.Buffer
	status = reload(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, append([]string{"-socket", c.socket}, args...))
	return status, stdout.String(), stderr.String()
}

// reload puts a text in force by the verb, and returns what it says.
func (c *changing) reload(text string) (out string) {
	c.t.Helper()
	c.write(text)
	status, out, faults := c.ask()
	if status != exitOK || faults != "" {
		c.t.Fatalf("reload: status %d, %s%s", status, out, faults)
	}
	return out
}

// signalReload puts a text in force by SIGHUP, and returns what the log says of it.
func (c *changing) signalReload(text string) (out string) {
	c.t.Helper()
	c.write(text)
	before := len(c.reloads())
	c.signal(syscall.SIGHUP)
	all := c.awaitReloads(before + 1)
	if last := all[len(all)-1]; !last.OK {
		c.t.Fatalf("reload: %s", last.Verdict)
	}
	return all[len(all)-1].Changes
}

// loggedReload is a line of the log about a reload that was not waited for.
type loggedReload struct {
	From, Verdict, Changes string
	OK                     bool
}

func (c *changing) reloads() (all []loggedReload) {
	for line := range strings.Lines(c.logged()) {
		var entry struct {
			Msg string
			loggedReload
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "reload" {
			all = append(all, entry.loggedReload)
		}
	}
	return all
}

func (c *changing) awaitReloads(n int) (all []loggedReload) {
	c.t.Helper()
	eventually(c.t, patience, fmt.Sprintf("%d reloads are logged", n), func() bool {
		all = c.reloads()
		return len(all) >= n
	})
	return all
}

// changes runs a body over both modes and both ways to ask for a reload.
func changes(t *testing.T, body func(t *testing.T, mode string, reload func(c *changing, text string) string)) {
	modesTogether(t, func(t *testing.T, mode string) {
		t.Run("verb", func(t *testing.T) { body(t, mode, (*changing).reload) })
		t.Run("signal", func(t *testing.T) { body(t, mode, (*changing).signalReload) })
	})
}

// listenerAt is a listener of a configuration, with further lines.
func listenerAt(name, bind, pool string, lines ...string) string {
	return fmt.Sprintf("[listener.%s]\nbind = %q\npool = %q\n%s\n", name, bind, pool, strings.Join(lines, "\n"))
}

// poolOf is a pool of a configuration, with further lines.
func poolOf(name string, backends []string, lines ...string) string {
	return fmt.Sprintf("[pool.%s]\nbackends = %s\n%s\n", name, quoted(backends), strings.Join(lines, "\n"))
}

func quoted(texts []string) string {
	b, _ := json.Marshal(texts) // TOML writes a list of text alike
	return string(b)
}

// acceptorsTable is the head of a configuration. A hang must not meet a test of
// something else: hang_after is far longer than a busy machine's doing.
func acceptorsTable(count int, steering string, lines ...string) string {
	return fmt.Sprintf("[acceptors]\ncount = %d\nsteering = %q\nhang_after = \"10s\"\n%s\n", count, steering, strings.Join(lines, "\n"))
}

// unused is an address of 127.0.0.1 where nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	return local(freePort(t))
}

// servedBy says whether the backend of this name serves clients of addr.
func servedBy(t *testing.T, addr string, name byte) bool {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return askName(t, c) == name
}
