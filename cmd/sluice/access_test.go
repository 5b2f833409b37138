package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// entersFrom says whether a client with this address is served. One that is not must be
// reset.
func entersFrom(t *testing.T, source, addr string) bool {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if talks(c) {
		return true
	}
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s hears nothing", source)
	}
	return false
}

// expectEntry compares which clients are served with which should be.
func expectEntry(t *testing.T, addr string, want map[string]bool) {
	t.Helper()
	for source, enters := range want {
		if got := entersFrom(t, source, addr); got != enters {
			t.Errorf("%s: served %t, want %t", source, got, enters)
		}
	}
}

// Who may connect is judged before the session counts, by the longest prefix, and follows
// a reload; connected clients stay.
func TestAccess(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		pool := acceptorsTable(2, "hash") + poolOf("app", []string{echoing(t).addr})
		text := func(lines ...string) string { return pool + listenerAt("main", "127.0.0.1:0", "app", lines...) }
		s := startChanging(t, mode, text(`deny = ["127.6.0.0/16", "127.6.6.0/24"]`, `allow = ["127.0.0.0/8", "127.6.6.6"]`))
		expectEntry(t, s.addr(), map[string]bool{"127.0.0.1": true, "127.6.0.1": false, "127.6.6.1": false, "127.6.6.6": true, "127.7.0.1": true})
		if got := s.metric("sluice_listener_rejected_connections_total", `reason="denied"`); got != 2 {
			t.Errorf("denied: %v, want 2", got)
		}
		held := dialFrom(t, netip.MustParseAddr("127.0.0.3"), s.addr())
		if !talks(held) {
			t.Fatal("not served")
		}
		put := func(text string) {
			t.Helper()
			s.reload(text)
			s.awaitGeneration()
		}
		put(text(`deny = ["127.0.0.3", "::/0"]`, `max_sessions = 1`))
		expectEntry(t, s.addr(), map[string]bool{"127.0.0.3": false})
		if !talks(held) {
			t.Error("a session was ended by a reload that would not let it in")
		}
		if got := s.metric("sluice_listener_rejected_connections_total", `reason="max_sessions"`); got != 0 {
			t.Errorf("max_sessions: %v; who may not connect counts for no limit", got)
		}
		held.Close()
		put(text(`allow = ["127.8.0.0/16"]`))
		expectEntry(t, s.addr(), map[string]bool{"127.0.0.1": false, "127.8.0.1": true})
		put(text())
		expectEntry(t, s.addr(), map[string]bool{"127.0.0.1": true})
	})
}

// How clients that may not connect hear of it.
func TestRefuse(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		text := acceptorsTable(1, "hash") + poolOf("app", []string{echoing(t).addr})
		for _, how := range []string{"rst", "fin", "silent"} {
			text += listenerAt(how, "127.0.0.1:0", "app", `deny = ["127.0.0.1"]`, fmt.Sprintf("refuse = %q", how))
		}
		s := startChanging(t, mode, text)
		expectRefusal(t, s.addrs["rst"])
		expectEnd(t, dial(t, s.addrs["fin"]))
		quiet := dial(t, s.addrs["silent"])
		eventually(t, patience, "it is counted", func() bool {
			return s.metric("sluice_listener_rejected_connections_total", `listener="silent"`, `reason="denied"`) == 1
		})
		if err := quiet.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		switch _, err := quiet.Read(make([]byte, 1)); {
		case mayRepair(t) && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("silent: %v", err)
		case !mayRepair(t) && !errors.Is(err, syscall.ECONNRESET): // the machine itself is nearer than the next router
			t.Errorf("silent, without the right: %v", err)
		}
	})
}

// A client that is gone before it is accepted has no address to be judged by: it ends as
// client_reset, takes nothing of a source, and no backend hears of it.
func TestGoneBeforeItIsJudged(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		s := startChanging(t, mode, acceptorsTable(1, "hash")+poolOf("app", []string{echoing(t).addr})+
			listenerAt("main", "127.0.0.1:0", "app", `deny = ["127.0.0.1"]`, "source_sessions = 5"))
		worker := s.status().Workers[0].PID
		freeze(t, worker)
		eventually(t, patience, "all its threads have stopped", func() bool {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", worker))
			return len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
				stat, err := os.ReadFile(path)
				return err == nil && !strings.Contains(string(stat), ") T ")
			})
		})
		const n = 10
		for range n {
			reset(t, dial(t, s.addr()))
		}
		kill(t, worker, syscall.SIGCONT)
		s.expectClosed(map[string]int{"client_reset": n})
		if got := s.tries(); got != 0 {
			t.Errorf("%v connects to the backend", got)
		}
		s.awaitIdle()
	})
}

// mayRepair says whether this user may put a socket under repair.
func mayRepair(t *testing.T) bool {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	const repair = 19 // TCP_REPAIR
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, repair, 1) == nil
}

// replace puts text at path at once.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A list in a file holds as soon as it has changed, however it did; one that is bad leaves
// the old one in force, which is logged once.
func TestDenyFile(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		list := filepath.Join(dir, "deny.txt")
		write(t, list, "# who was rude\n127.6.0.0/16 # all of them\n\n")
		s := startChanging(t, mode, acceptorsTable(2, "hash")+poolOf("app", []string{echoing(t).addr})+
			listenerAt("main", "127.0.0.1:0", "app", fmt.Sprintf("deny_file = %q", list))+
			listenerAt("other", "127.0.0.1:0", "app", fmt.Sprintf("deny_file = %q", list)))
		denied := func(source string) {
			t.Helper()
			eventually(t, patience, source+" is denied", func() bool { return !entersFrom(t, source, s.addr()) })
			if entersFrom(t, source, s.addrs["other"]) {
				t.Errorf("%s is denied at one of two listeners with the same list", source)
			}
		}
		denied("127.6.0.1")
		replace(t, list, "127.7.0.1\n")
		denied("127.7.0.1")
		expectEntry(t, s.addr(), map[string]bool{"127.6.0.1": true})

		// Kubernetes swaps a link.
		for _, n := range []string{"1", "2"} {
			if err := os.Mkdir(filepath.Join(dir, n), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, n, "deny.txt"), "127.8.0."+n+"\n")
		}
		link := func(to string) {
			t.Helper()
			if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "new"), list); err != nil {
				t.Fatal(err)
			}
		}
		link("1/deny.txt")
		denied("127.8.0.1")
		link("2/deny.txt")
		denied("127.8.0.2")

		const complaint = "a file is not taken"
		faults := func(want float64) {
			t.Helper()
			eventually(t, patience, fmt.Sprintf("%v faults", want), func() bool {
				return s.metric("sluice_file_faults_total", `kind="prefixes"`) == want && s.metric("sluice_file_ok") == 0
			})
			expectEntry(t, s.addr(), map[string]bool{"127.8.0.2": false, "127.9.0.1": true})
		}
		replace(t, list, "127.9.0.1\n127.9.0.300\n")
		faults(1)
		s.tells(`line 2: \"127.9.0.300\" is neither an address`, func(n int) bool { return n == 1 })
		write(t, list, "127.9.0.1/3") // the rest comes later
		faults(2)
		s.tells(complaint, func(n int) bool { return n == 2 })
		if status, out, errs := s.ask(); status == exitOK || !strings.Contains(out+errs, "line 1: does not end") {
			t.Errorf("a reload with a half list: status %d, %s%s", status, out, errs)
		}
		write(t, list, "127.9.0.1/32\n")
		denied("127.9.0.1")
		if ok, n := s.metric("sluice_file_ok"), s.metric("sluice_file_entries"); ok != 1 || n != 1 {
			t.Errorf("ok %v, entries %v", ok, n)
		}
		if mode == "process" { // a new acceptor knows it, too
			for _, w := range s.status().Workers {
				if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
			eventually(t, startWithin, "two new workers", func() bool {
				n := uint64(0)
				for _, w := range s.status().Workers {
					n += w.Restarts
				}
				return n >= 2
			})
			for range 8 {
				expectEntry(t, s.addr(), map[string]bool{"127.9.0.1": false})
			}
		}
		if err := os.Remove(list); err != nil {
			t.Fatal(err)
		}
		expectEntry(t, s.addr(), map[string]bool{"127.9.0.1": false})
	})
}

// 100,000 prefixes reach every acceptor, and change while it runs.
func TestManyPrefixes(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		var many strings.Builder
		for i := range 100_000 {
			fmt.Fprintf(&many, "10.%d.%d.%d/32\n", i>>16, i>>8&255, i&255)
		}
		list := filepath.Join(t.TempDir(), "deny.txt")
		write(t, list, many.String()+"127.6.0.1\n")
		s := startChanging(t, mode, acceptorsTable(2, "hash")+poolOf("app", []string{echoing(t).addr})+
			listenerAt("main", "127.0.0.1:0", "app", fmt.Sprintf("deny_file = %q", list)))
		expectEntry(t, s.addr(), map[string]bool{"127.6.0.1": false, "127.7.0.1": true})
		replace(t, list, many.String()+"127.7.0.1\n")
		eventually(t, patience, "the new list holds", func() bool { return !entersFrom(t, "127.7.0.1", s.addr()) })
		expectEntry(t, s.addr(), map[string]bool{"127.6.0.1": true})
		if n := s.metric("sluice_file_entries"); n != 100_001 {
			t.Errorf("%v entries", n)
		}
	})
}

// A list that cannot be had, or is wrong, is no start.
func TestBadDenyFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad"), "10.0.0.0/8\nten\n")
	write(t, filepath.Join(dir, "empty"), "")
	for name, want := range map[string]string{
		"bad": `bad: line 2: "ten" is neither an address nor a prefix`, "empty": "empty: is empty", "missing": "missing: no such file", ".": "is no regular file",
	} {
		path := configFile(t, acceptorsTable(1, "hash")+poolOf("app", []string{"127.0.0.1:9"})+
			listenerAt("main", "127.0.0.1:0", "app", fmt.Sprintf("deny_file = %q", filepath.Join(dir, name))))
		var out, errs strings.Builder
		status := check(env{stdout: &out, stderr: &errs}, []string{"-c", path})
		if text := out.String() + errs.String(); status != exitFault || !strings.Contains(text, want) || !strings.Contains(text, "sluice.toml:12:1: listener.main.deny_file: ") {
			t.Errorf("%s: status %d, %s", name, status, text)
		}
	}
}
