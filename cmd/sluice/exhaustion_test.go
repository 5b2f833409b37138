package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// limited limits the program's open files.
func limited(files int) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Path = "/bin/sh"
		cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files)}, cmd.Args...)
	}
}

// A service that is full for long loses no client: one that is not yet served waits
// in the queue for as long as it takes, beyond connect_timeout too, and costs no
// CPU time.
func TestFullForLong(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		for _, files := range []int{64, 65} { // two a session: one of both leaves a single one
			t.Run(fmt.Sprint(files), func(t *testing.T) {
				ln := listen(t)
				go echo(ln)
				s := launch(t, limited(files), "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json",
					"--acceptors", "1", "--connect-timeout", "300ms", "--listen", "127.0.0.1:0", "--backend", ln.Addr().String())
				s.awaitReady()
				clients := make([]net.Conn, 60)
				for i := range clients {
					c, err := net.DialTimeout("tcp", s.addr(), 5*time.Second)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(time.Minute))
					clients[i] = c
				}
				eventually(t, startWithin, "the service is full", func() bool { return strings.Contains(s.logged(), "accepting pauses") })
				for _, path := range []string{"/livez", "/metrics"} { // from a new client: a full service lives
					if status := freshGet(t, "http://"+s.admin+path); status != http.StatusOK {
						t.Errorf("%s of the full service: status %d", path, status)
					}
				}
				cpu, held := s.cpu(), s.metric("sluice_acceptor_active_connections")
				time.Sleep(3 * time.Second) // ten times connect_timeout
				if cpu = s.cpu() - cpu; cpu > 300*time.Millisecond {
					t.Errorf("used %v of CPU time in 3 s of waiting", cpu)
				}
				t.Logf("%.0f sessions held, %v of CPU time in 3 s", held, cpu)

				for i, c := range clients {
					asked := fmt.Sprintf("%3d", i)
					answer := make([]byte, len(asked))
					if _, err := io.WriteString(c, asked); err != nil {
						t.Fatalf("client %d: %v", i, err)
					}
					if _, err := io.ReadFull(c, answer); err != nil || string(answer) != asked {
						t.Errorf("client %d: answered %q: %v", i, answer, err)
					}
					c.Close()
				}
				s.awaitIdle()
				s.tells("accepting pauses", func(n int) bool { return n == 1 })
				eventually(t, stopWithin, "the log says that accepting goes on", func() bool { return strings.Contains(s.logged(), "accepting goes on") })
				if s.metric("sluice_acceptor_accept_backoffs_total") == 0 {
					t.Error("no pause was counted")
				}
			})
		}
	})
}

// freshGet asks over a connection of its own.
func freshGet(t *testing.T, url string) (status int) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Error(err)
	}
	return r.StatusCode
}

// echo is a backend that gives back what it gets, until ln is closed.
func echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // ends when its client does
		}()
	}
}
