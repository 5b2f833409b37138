package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// served are the names of the backends that n clients met.
func served(t *testing.T, addr string, n int) string {
	t.Helper()
	names := map[byte]bool{}
	for range n {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		names[askName(t, c)] = true
		c.Close()
	}
	text := ""
	for _, name := range []byte("abc") {
		if names[name] {
			text += string(name)
		}
	}
	return text
}

// Backends come and go by a file that is missing at first; a bad one changes nothing; a
// session stays on a backend that has left.
func TestBackendsFile(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		a, b, c := namer(t, 'a').addr, namer(t, 'b').addr, namer(t, 'c').addr
		list := filepath.Join(t.TempDir(), "backends")
		text := func(backends, more string) string {
			return acceptorsTable(1, "hash") + listenerAt("main", "127.0.0.1:0", "app", `wait_for_backend = "20s"`) +
				fmt.Sprintf("[pool.app]\n%sbackends_file = %q\n%s\n", backends, list, more)
		}
		s := startChanging(t, mode, text("", ""))
		s.tells(`"msg":"a file is not taken; what it said before stays in force","kind":"backends"`, func(n int) bool { return n == 1 })
		becomes := func(want string) {
			t.Helper()
			eventually(t, patience, want+" serve", func() bool { return served(t, s.addr(), 2*len(want)) == want })
		}
		early := dial(t, s.addr()) // it waits for what the file will say
		replace(t, list, fmt.Sprintf("[%q]", a))
		if name := askName(t, early); name != 'a' {
			t.Errorf("who came before the file was served by %c", name)
		}
		becomes("a")
		replace(t, list, fmt.Sprintf("[[backends]]\naddress = %q\n[[backends]]\naddress = %q\nweight = 1\n", a, b))
		becomes("ab")
		if n := s.metric("sluice_file_entries", `kind="backends"`); n != 2 {
			t.Errorf("%v entries", n)
		}
		write(t, list, fmt.Sprintf("{\"backends\": [%q, \"127.0.0.1", c)) // the rest comes later
		eventually(t, patience, "half a file is a fault", func() bool { return s.metric("sluice_file_faults_total") == 2 })
		becomes("ab")
		if _, page := s.get("/status.json"); !strings.Contains(page, "line 1, column") {
			t.Error("the status does not say what is wrong with the file")
		}
		// A reload of something else goes on with what the file said before.
		s.reload(text("", "retries = 3"))
		becomes("ab")
		held := dial(t, s.addr())
		askName(t, held)
		replace(t, list, fmt.Sprintf("[{\"address\": %q}]", c))
		becomes("c")
		// Beside the pool's own.
		s.reload(text(fmt.Sprintf("backends = [%q]\n", a), ""))
		becomes("ac")
		if err := os.Remove(list); err != nil {
			t.Fatal(err)
		}
		becomes("ac")
		s.reload(strings.ReplaceAll(text(fmt.Sprintf("backends = [%q]\n", a), ""), fmt.Sprintf("backends_file = %q", list), ""))
		becomes("a")
		if _, page := s.get("/metrics"); strings.Contains(page, "sluice_file_ok{") {
			t.Error("a file that nobody follows has metrics")
		}
	})
}
