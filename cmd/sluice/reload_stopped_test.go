package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stoppedAt is a configuration of four pinned acceptors, one of which will be stopped.
func stoppedAt(addr, backend string, drain time.Duration, lines ...string) string {
	return fmt.Sprintf("[limits]\ndrain_timeout = %q\n[acceptors]\ncount = 4\nsteering = \"hash\"\npin_cpus = true\nhang_after = \"100ms\"\n", drain) +
		listenerAt("main", addr, "app", lines...) + poolOf("app", []string{backend})
}

// startChangingStoppable is startChanging for acceptors that are stopped: see stoppable.
func startChangingStoppable(t *testing.T, mode, text string) *changing {
	t.Helper()
	c := &changing{path: configFile(t, text), socket: filepath.Join(t.TempDir(), "admin.sock")}
	c.instance = launch(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") },
		"run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", c.path, "--admin-socket", c.socket)
	c.awaitReady()
	return c
}

// An acceptor that is stopped delays neither a reload nor what it changes for the others;
// as it goes on it has the last Plan at once, however many there were.
func TestReloadWithAStoppedAcceptor(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		addr, more, backend := unused(t), unused(t), echoing(t).addr
		s := startChangingStoppable(t, mode, stoppedAt(addr, backend, time.Minute))
		const stopped = 2
		resume := s.stopAcceptor(mode, stopped)
		defer resume()
		var last uint64
		for i := range 5 {
			text := stoppedAt(addr, backend, time.Minute, fmt.Sprintf("max_sessions = %d", 1000+i))
			if i == 4 {
				text += listenerAt("more", more, "app")
			}
			began := time.Now()
			s.reload(text)
			// Bound by every other acceptor, and one of process mode is waited for at most 2 s, once.
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("reload %d took %v", i, took)
			}
			last = s.status().Config.Generation
		}
		generations := func() (all []int64) {
			for _, a := range s.status().Acceptors {
				all = append(all, a.Generation)
			}
			return all
		}
		eventually(t, patience, "the others run the last Plan", func() bool {
			for i, g := range generations() {
				if i != stopped && uint64(g) != last {
					return false
				}
			}
			return true
		})
		if g := generations()[stopped]; uint64(g) >= last {
			t.Fatalf("the stopped one runs Plan %d", g)
		}
		for range 20 { // on the new listener, too, whose sockets it has never seen
			for _, at := range []string{addr, more} {
				if err := pingPong(dial(t, at)); err != nil {
					t.Fatal(err)
				}
			}
		}
		resume()
		eventually(t, patience, "it runs the last Plan", func() bool { return uint64(generations()[stopped]) == last })
		eventually(t, patience, "it turns again", func() bool { return s.metric("sluice_acceptor_hung") == 0 })
		if status := s.stop(); status != exitOK {
			t.Errorf("exit status %d", status)
		}
	})
}

// SIGHUP, SIGTERM and a second SIGTERM do what they should with an acceptor stopped.
func TestSignalsWithAStoppedAcceptor(t *testing.T) {
	takesLong(t)
	t.Parallel()
	modesTogether(t, func(t *testing.T, mode string) {
		for name, row := range map[string]struct {
			drain  time.Duration
			second bool
			within time.Duration
		}{
			"the drain is bounded":    {time.Second, false, time.Second + 10*time.Second},
			"a second signal ends it": {time.Minute, true, 10 * time.Second},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				addr, backend := unused(t), echoing(t).addr
				s := startChangingStoppable(t, mode, stoppedAt(addr, backend, row.drain))
				var c crowd
				c.join(t, addr, 40, 4, false) // that the hash gives one of four none is 1 in 100,000
				s.held(40)
				resume := s.stopAcceptor(mode, 1)
				if mode == "goroutine" { // in the other the worker is killed
					defer resume()
				}
				s.signal(syscall.SIGHUP)
				if all := s.awaitReloads(1); !all[0].OK {
					t.Error(all[0].Verdict)
				}
				began := time.Now()
				s.signal(syscall.SIGTERM)
				if row.second {
					eventually(t, patience, "it drains", func() bool { return strings.Contains(s.logged(), `"draining"`) })
					s.signal(syscall.SIGTERM)
				}
				if mode == "goroutine" {
					// Where a thread is stopped from outside its process cannot end: it must say that it would.
					eventually(t, row.within, "it has stopped", func() bool { return strings.Contains(s.logged(), `"stopped"`) })
					resume()
				}
				if status := s.wait(row.within); status != exitFault {
					t.Errorf("exit status %d", status)
				}
				if took := time.Since(began); took > row.within {
					t.Errorf("it took %v", took)
				}
				for _, conn := range c.conns {
					conn.Close()
				}
			})
		}
	})
}
