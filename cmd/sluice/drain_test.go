package main

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/config"
)

// drainable starts a service of one backend, and returns how sluice drain asks it: that
// checks the exit status, and returns what was said.
func drainable(t *testing.T, mode string, args ...string) (s *instance, ask func(want int, args ...string) string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	s = sluice(t, mode, append(args, "--admin-socket", socket, "--listen", "127.0.0.1:0", "--backend", echoing(t).addr)...)
	return s, func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if got := drain(env{stdout: &out, stderr: &out, vars: config.Environment{}}, append(args, "-socket", socket)); got != want {
			t.Errorf("sluice drain %v: exit status %d: %s", args, got, &out)
		}
		return out.String()
	}
}

// The verb does what SIGTERM does. Asked again it cuts nobody, but with -now.
func TestDrainVerb(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		s, ask := drainable(t, mode, "--drain-timeout", "10m")
		c := dial(t, s.addr())
		send(t, c, "here")
		expect(t, c, "here")
		if said := ask(exitOK); said != "drains: 10m0s at most for 1 session\n" {
			t.Errorf("it says %q", said)
		}
		eventually(t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
		s.expectPage("/readyz", http.StatusServiceUnavailable, "draining")
		for range 3 {
			if said := ask(exitOK); said != "drains already; left: 1 session\n" {
				t.Errorf("it says %q", said)
			}
		}
		send(t, c, "still")
		expect(t, c, "still")
		if said := ask(exitOK, "-now", "-wait"); said != "ends now, and cuts 1 session\nit has ended\n" {
			t.Errorf("it says %q", said)
		}
		if status := s.wait(stopWithin); status != exitFault {
			t.Errorf("exit status %d with a session to cut", status)
		}
		if log := s.logged(); !strings.Contains(log, `"msg":"drain was asked for"`) {
			t.Errorf("the log does not say who asked: %s", log)
		}
		ask(exitFault) // nobody is there

		s, ask = drainable(t, mode, "--drain-delay", "10m")
		if said := ask(exitOK); !strings.HasPrefix(said, "is not ready from now on, and drains in 10m0s: then ") {
			t.Errorf("it says %q", said)
		}
		eventually(t, stopWithin, "not ready", func() bool {
			status, _ := s.get("/readyz")
			return status == http.StatusServiceUnavailable
		})
		c = dial(t, s.addr())
		send(t, c, "here")
		expect(t, c, "here")
		c.Close()
		s.awaitIdle()
		ask(exitOK, "-now")
		if status := s.wait(stopWithin); status != exitOK {
			t.Errorf("exit status %d with nobody to cut", status)
		}
	})
}

// -wait returns when the last session has ended.
func TestDrainWaits(t *testing.T) {
	s, ask := drainable(t, "goroutine", "--drain-timeout", "10m")
	c := dial(t, s.addr())
	send(t, c, "here")
	expect(t, c, "here")
	said := make(chan string)
	go func() { said <- ask(exitOK, "-wait") }()
	eventually(t, stopWithin, "nobody listens", func() bool { return refuses(s.addr()) })
	select {
	case <-said:
		t.Fatal("it does not wait for the session")
	case <-time.After(2 * endsEvery):
	}
	c.Close()
	if text := <-said; !strings.HasSuffix(text, "it has ended\n") {
		t.Errorf("it says %q", text)
	}
	if status := s.wait(stopWithin); status != exitOK {
		t.Errorf("exit status %d", status)
	}
}
