package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/config"
)

// A dry run says what would change, and that is all it does.
func TestDryRunChangesNothing(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		a, b, pool := unused(t), unused(t), poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, acceptorsTable(2, "hash")+listenerAt("web", a, "app")+pool)
		held := dial(t, a)
		if !talks(held) {
			t.Fatal("no session")
		}
		before := s.status().Config
		s.write(acceptorsTable(3, "hash") + listenerAt("web", b, "app", `idle_timeout = "1s"`) + pool)
		status, out, faults := s.ask("-dry-run")
		want := "3 would change\nlive     acceptors.count: 2 -> 3, touches 1 session\n" +
			"rebind   listener.web.bind: " + a + " -> " + b + ", touches 1 session\n" +
			"live     listener.web.idle_timeout: 10m -> 1s, touches 1 session\nin force: generation 1, sha256 " + before.SHA256 + "\n"
		if status != exitOK || out != want || faults != "" {
			t.Errorf("status %d, %q, %q; want %q", status, out, faults, want)
		}
		if now := s.status(); now.Config.Generation != before.Generation || len(now.Acceptors) != 2 || !refuses(b) || !talks(held) {
			t.Error("something has changed")
		}
		s.expectReloads(0, 0, 0)
	})
}

// expectReloads checks what is counted.
func (s *instance) expectReloads(success, refused, failed float64) {
	s.t.Helper()
	for result, want := range map[string]float64{"success": success, "refused": refused, "failed": failed} {
		if got := s.metric("sluice_config_reloads_total", `result="`+result+`"`); got != want {
			s.t.Errorf("%v reloads were %s, want %v", got, result, want)
		}
	}
}

// A file with faults changes nothing; the caller reads what "sluice check" says, and
// metrics show it until a better one has come.
func TestReloadOfAFaultyFile(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		addr := unused(t)
		good := acceptorsTable(2, "hash") + listenerAt("web", addr, "app") + poolOf("app", []string{echoing(t).addr})
		s := startChanging(t, mode, good)
		held := dial(t, addr)
		before, sockets := s.status().Config, listening(t, addr)
		for i, text := range []string{
			strings.Replace(good, "bind", "bnd", 1) + "[listener.other]\nbind = \"nowhere\"\n",
			strings.Replace(good, "[listener.web]", "[listener.web", 1),
			"",
			good[:len(good)/2],
		} {
			s.write(text)
			status, out, faults := s.ask()
			if want := checkText(t, s.path) + "in force: generation 1, sha256 " + before.SHA256 + "\n"; status != exitFault || out != "" || faults != want {
				t.Errorf("status %d, %q, %q; want %q", status, out, faults, want)
			}
			if got := s.metric("sluice_config_last_reload_successful"); got != 0 {
				t.Errorf("last reload successful: %v", got)
			}
			s.expectReloads(0, float64(2*i+1), 0)
			s.signal(syscall.SIGHUP)
			if all := s.awaitReloads(i + 1); all[i].OK || all[i].Verdict+"\n" != checkText(t, s.path) {
				t.Errorf("logged %+v", all[i])
			}
			s.expectReloads(0, float64(2*i+2), 0)
		}
		if now := s.status().Config; now.Generation != before.Generation || now.SHA256 != before.SHA256 || !now.Reload.LastSuccess.Equal(before.Reload.LastSuccess) {
			t.Errorf("something has changed: %+v, was %+v", now, before)
		}
		if !talks(held) || !slices.Equal(sorted(listening(t, addr)), sorted(sockets)) {
			t.Error("the listener has changed")
		}
		s.reload(good)
		s.expectReloads(1, 8, 0)
		if got := s.metric("sluice_config_last_reload_successful"); got != 1 {
			t.Errorf("last reload successful: %v", got)
		}
		if now := s.status().Config.Reload; !now.LastSuccess.After(before.Reload.LastSuccess) {
			t.Error("the time of the last success stands still")
		}
	})
}

// checkText is what "sluice check" says of a file with faults.
func checkText(t *testing.T, path string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := check(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, []string{"-c", path})
	if status != exitFault || stdout.Len() > 0 {
		t.Fatalf("sluice check: status %d, %s", status, &stdout)
	}
	return stderr.String()
}

// An address that is taken fails the reload as a whole: what else was in the file is
// not in force either, and nothing of it is left over.
func TestReloadThatFails(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		a, b, taken, pool := unused(t), unused(t), echoing(t).addr, poolOf("app", []string{echoing(t).addr})
		file := func(count int, idle string, more ...string) string {
			return acceptorsTable(count, "hash") + listenerAt("a", a, "app", `idle_timeout = "`+idle+`"`) + strings.Join(more, "") + pool
		}
		s := startChanging(t, mode, file(2, "10m"))
		held := dial(t, a)
		if !talks(held) {
			t.Fatal("no session")
		}
		sockets, descriptors := listening(t, a), s.descriptors()
		before := s.status().Config
		for range 3 {
			s.write(file(4, "1s", listenerAt("b", b, "app"), listenerAt("c", taken, "app")))
			status, out, faults := s.ask()
			if status != exitFault || out != "" || !strings.Contains(faults, `listener "c"`) || !strings.Contains(faults, taken) {
				t.Errorf("status %d, %q, %q", status, out, faults)
			}
		}
		s.expectReloads(0, 0, 3)
		if now := s.status(); now.Config.SHA256 != before.SHA256 || len(now.Acceptors) != 2 || len(now.Listeners) != 1 {
			t.Errorf("something has changed: %+v", now.Config)
		}
		if !refuses(b) || !talks(held) || !slices.Equal(sorted(listening(t, a)), sorted(sockets)) {
			t.Error("a listener has changed")
		}
		eventually(t, patience, "as many descriptors as before", func() bool { return s.descriptors() <= descriptors+1 }) // one may be the admin endpoint's
		time.Sleep(1500 * time.Millisecond)
		if !talks(held) {
			t.Error("the idle timeout of the file that failed is in force")
		}
		s.reload(file(4, "10m", listenerAt("b", b, "app")))
		if !talks(dial(t, b)) {
			t.Error("no session after the next reload")
		}
	})
}

// A watched file is taken when it is written, replaced, or reached by a symbolic link
// that changes; not half written, and not once it is no longer watched.
func TestWatchedFile(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		addr, dir := unused(t), t.TempDir()
		backend := echoing(t).addr
		file := func(limit string, watch string) string {
			return "[reload]\nwatch = " + watch + "\n" + listenerAt("web", addr, "app", "max_sessions = "+limit) + poolOf("app", []string{backend})
		}
		// As Kubernetes does it: sluice.toml -> ..data/sluice.toml, ..data -> ..1
		version := func(name, text string) {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name, "sluice.toml"), text)
		}
		link := func(to, name string) {
			beside := filepath.Join(dir, "..new")
			if err := os.Symlink(to, beside); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(beside, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		version("..1", file("1", "true"))
		link("..1", "..data")
		link("..data/sluice.toml", "sluice.toml")
		path := filepath.Join(dir, "sluice.toml")
		s := &changing{path: path}
		s.instance = sluice(t, mode, "-c", path)
		inForce := func(limit int) {
			t.Helper()
			eventually(t, patience, "the watched file is in force", func() bool { return s.status().Listeners[0].MaxSessions == limit })
		}
		inForce(1)
		version("..2", file("2", "true"))
		link("..2", "..data")
		inForce(2)
		write(t, path, file("3", "true")) // through the links
		inForce(3)
		s.write(file("4", "true")) // by rename: no link any more
		inForce(4)

		// In several parts, each in time for what was before it not to be taken.
		whole := file("5", "true")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for len(whole) > 0 {
			n := min(len(whole), 20)
			if _, err := f.WriteString(whole[:n]); err != nil {
				t.Fatal(err)
			}
			whole = whole[n:]
			time.Sleep(20 * time.Millisecond)
		}
		inForce(5)
		s.write("half a fi")
		eventually(t, patience, "a refusal", func() bool { return s.metric("sluice_config_reloads_total", `result="refused"`) == 1 })
		s.write(file("6", "false"))
		inForce(6)
		s.expectReloads(5, 1, 0)
		s.write(file("7", "false"))
		time.Sleep(time.Second) // many times what a watch takes
		if n := s.status().Listeners[0].MaxSessions; n != 6 {
			t.Errorf("a file that is no longer watched was taken: max_sessions %d", n)
		}
	})
}
