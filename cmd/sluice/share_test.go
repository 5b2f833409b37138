package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two instances share one port. Each in turn leaves by SIGTERM and comes back, under
// load: no connect fails, and no session breaks.
func TestInstancesTakeTurns(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		start := func(name, bind string) *instance {
			return sluice(t, mode, "-c", configFile(t, fmt.Sprintf(`
instance = %q
[acceptors]
count = 2
[listener.main]
bind = %q
pool = "main"
share = true
[pool.main]
backends = [%q]
`, name, bind, backend)))
		}
		both := map[string]*instance{"blue": start("blue", "127.0.0.1:0")}
		addr := both["blue"].addr()
		both["green"] = start("green", addr)

		load := startLoad(addr, 20, 20*time.Millisecond)
		defer load.stop()
		for _, name := range []string{"blue", "green", "blue", "green"} {
			s := both[name]
			eventually(t, patience, name+" has its share", func() bool {
				return s.metric("sluice_acceptor_accepted_connections_total") > 20
			})
			if n := s.metric("sluice_instance_info", fmt.Sprintf("name=%q", name)); n != 1 {
				t.Errorf("%s does not name itself", name)
			}
			if status := s.stop(); status != exitOK {
				t.Errorf("%s: exit status %d", name, status)
			}
			both[name] = start(name, addr)
		}
		if refused, broken := load.refused.Load(), load.broken.Load(); refused+broken > 0 {
			t.Errorf("%d connects failed (%v), %d sessions broke, of %d", refused, load.fault.Load(), broken, load.served.Load())
		}
	})
}

// An instance that leaves a port it shares delays no client: none of them sends its SYN
// a second time, which it would do after one second.
func TestLeavingInstanceDelaysNobody(t *testing.T) {
	const bearable = 700 * time.Millisecond
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		start := func(bind string) *instance {
			return sluice(t, mode, "-c", configFile(t, fmt.Sprintf(`
[acceptors]
count = 2
[listener.main]
bind = %q
pool = "main"
share = true
[pool.main]
backends = [%q]
`, bind, backend)))
		}
		stays := start("127.0.0.1:0")
		delayed := 0
		for range 3 {
			leaves := start(stays.addr())
			load := startLoad(stays.addr(), 10, 10*time.Millisecond)
			eventually(t, patience, "it has its share", func() bool {
				return leaves.metric("sluice_acceptor_accepted_connections_total") > 20
			})
			if status := leaves.stop(); status != exitOK {
				t.Errorf("exit status %d", status)
			}
			load.stop()
			if failed := load.refused.Load() + load.broken.Load(); failed > 0 {
				t.Errorf("%d of %d failed (%v)", failed, load.served.Load(), load.fault.Load())
			}
			if slowest := time.Duration(load.slowest.Load()); slowest > bearable {
				delayed++
				t.Logf("the slowest connect took %v", slowest)
			}
		}
		if delayed > 1 { // one in some seventy is, see steering.Aside
			t.Errorf("in %d of 3 cases a client was delayed", delayed)
		}
	})
}

// The same where the kernel moves what waits in a closed socket's queue to another.
func TestInstancesTakeTurnsWithMigration(t *testing.T) {
	withMigration(t, "^TestInstancesTakeTurns$")
}

// withMigration runs other tests in a network of their own, with the kernel's
// tcp_migrate_req as it is not where they run else.
func withMigration(t *testing.T, tests string) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	need(t, "ip", "iproute2")
	const setting = "/proc/sys/net/ipv4/tcp_migrate_req"
	was, err := os.ReadFile(setting)
	if err != nil {
		unable(t, "%v", err) // a kernel before 5.14
	}
	migrate := "1"
	if strings.TrimSpace(string(was)) == migrate {
		migrate = "0"
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ip link set lo up && echo "$0" >`+setting+` && exec "$@"`,
		migrate, os.Args[0], "-test.run="+tests, "-test.v", fmt.Sprintf("-test.short=%v", testing.Short()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}
