package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// unprivileged starts the program as steered does, as a user who may load no program
// into the kernel.
func unprivileged(t *testing.T, mode, policy string, hangAfter time.Duration) *instance {
	t.Helper()
	s := asNobody(t, mode, policy, hangAfter, func(string) {})
	if s.status().Listeners[0].Steering.Effective == "least" {
		t.Skip("this user may load BPF programs: run as root, who starts sluice as nobody")
	}
	return s
}

// asNobody starts a copy of the program as nobody, or as the user that runs the test
// if that is not root, after prepare had its way with the file.
func asNobody(t *testing.T, mode, policy string, hangAfter time.Duration, prepare func(program string)) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-unprivileged-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, file := filepath.Join(dir, "sluice"), filepath.Join(dir, "sluice.toml")
	copyProgram(t, program)
	write(t, file, steeredConfig(policy, hangAfter, echoing(t).addr))
	for _, path := range []string{dir, program} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	prepare(program)
	s := launch(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = program, dir
		if os.Geteuid() == 0 {
			const nobody = 65534
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		}
	}, "run", "--mode", mode, "--admin", "127.0.0.1:0", "--log-format", "json", "-c", file)
	s.awaitReady()
	return s
}

// copyProgram copies this test binary, which may lie where other users cannot read it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	copied, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(copied, from); err != nil {
		t.Fatal(err)
	}
	if err := copied.Close(); err != nil {
		t.Fatal(err)
	}
}

// Without any privilege the acceptors level what the kernel's hash gives them.
func TestHandOffWithoutPrivilege(t *testing.T) {
	const clients = 64
	modes(t, func(t *testing.T, mode string) {
		s := unprivileged(t, mode, "auto", 5*time.Second)
		if by := s.status().Listeners[0].Steering; by.Effective != "hand_off" || by.Reason != "not_permitted" {
			t.Errorf("steering %+v", by)
		}
		worst := 1.0
		for range trials() {
			var c crowd
			c.join(t, s.at("127.0.0.1"), clients, 8, false)
			b := s.held(clients)
			if worst = min(worst, b.Jain); b.Jain < .99 {
				t.Errorf("Jain %.4f, shares %v; a fair hash gives %.2f", b.Jain, b.Shares, b.Chance.Jain)
			}
			c.leave(t)
			s.held(0)
		}
		handed, taken := s.metric("sluice_acceptor_handed_off_connections_total"), s.metric("sluice_acceptor_taken_connections_total")
		if handed == 0 || handed != taken {
			t.Errorf("%.0f connections were handed off, %.0f taken", handed, taken)
		}
		t.Logf("worst Jain %.4f; %.0f of %d connections were handed off", worst, handed, trials()*clients)
	})
}

// No program can be attached to the sockets of Multipath TCP, so acceptors level there, too.
func TestHandOffOfMPTCP(t *testing.T) {
	if on, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || string(on) != "1\n" {
		t.Skipf("this kernel has no MPTCP, or it is off: %q, %v", on, err)
	}
	const clients = 64
	modes(t, func(t *testing.T, mode string) {
		c := startChanging(t, mode, acceptorsTable(acceptors, "auto")+listenerAt("main", "127.0.0.1:0", "app", "mptcp = true")+poolOf("app", []string{echoing(t).addr}))
		if by := c.status().Listeners[0].Steering; by.Effective != "hand_off" || by.Reason != "mptcp" {
			t.Errorf("steering %+v", by)
		}
		var all crowd
		all.join(t, c.addr(), clients, 8, false)
		defer all.leave(t)
		if b := c.held(clients); b.Jain < .99 {
			t.Errorf("Jain %.4f, shares %v; a fair hash gives %.2f", b.Jain, b.Shares, b.Chance.Jain)
		}
		if c.metric("sluice_acceptor_handed_off_connections_total") == 0 {
			t.Error("no connection was handed off")
		}
	})
}

// A file capability is all that exact steering takes: nobody may run sluice and have it.
func TestFileCapability(t *testing.T) {
	needBPF(t)
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file a capability")
	}
	const clients = 64
	modes(t, func(t *testing.T, mode string) {
		s := asNobody(t, mode, "auto", 5*time.Second, func(program string) {
			// setcap cap_bpf+ep: vfs_cap_data of linux/capability.h, version 2, with the
			// effective bit; the permitted set's second word has CAP_BPF, number 39.
			bpf := []byte{0: 1, 3: 2, 12: 1 << (39 - 32), 19: 0}
			if err := syscall.Setxattr(program, "security.capability", bpf, 0); err != nil {
				unable(t, "set the file capability: %v", err)
			}
		})
		if by := s.status().Listeners[0].Steering; by.Effective != "least" {
			t.Errorf("steering %+v", by)
		}
		var c crowd
		c.join(t, s.at("127.0.0.1"), clients, 8, false)
		if b := s.held(clients); b.Spread > 1 {
			t.Errorf("shares %v", b.Shares)
		}
		c.leave(t)
	})
}

// An acceptor that has nothing to do turns seldom when hangs may last long. It is not
// taken for one that hangs, and gets what is too much for another.
func TestHandOffToIdle(t *testing.T) {
	const (
		rounds, clients = 6, 6
		pace            = 120 * time.Millisecond // between clients all acceptors fall asleep
		hangAfter       = 4 * time.Second
	)
	modes(t, func(t *testing.T, mode string) {
		s := unprivileged(t, mode, "auto", hangAfter)
		for range rounds {
			var c crowd
			for n := range clients {
				c.join(t, s.at("127.0.0.1"), 1, 1, false)
				if b := s.held(n + 1); b.Spread > 2 {
					t.Errorf("shares %v of %d: max - min %.0f, want at most 2", b.Shares, n+1, b.Spread)
				}
				time.Sleep(pace)
			}
			c.leave(t)
			s.held(0)
		}
	})
}
