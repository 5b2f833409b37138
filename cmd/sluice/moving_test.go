package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// closedAs is how many sessions have ended for a reason.
func (s *instance) closedAs(reason string) int {
	s.t.Helper()
	return int(s.metric("sluice_listener_closed_connections_total", `reason="`+reason+`"`))
}

// sessionsAt are the sessions of a backend.
func (c *changing) sessionsAt(backend string) int {
	c.t.Helper()
	return c.list("-to", backend).Matched
}

// A backend that leaves by a reload keeps its sessions, or they are cut, as its pool says;
// those of the others go on.
func TestLeave(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		one, two := echoing(t), echoing(t)
		text := func(leave string, backends ...string) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "main") + poolOf("main", backends, "leave = \""+leave+"\"")
		}
		c := startChanging(t, mode, text("drain", one.addr, two.addr))
		var conns []net.Conn
		for range 20 {
			conns = append(conns, dial(t, c.addr()))
		}
		eventually(t, patience, "all are there", func() bool { return c.list("-state", "relaying").Matched == 20 })
		first := c.sessionsAt(one.addr)
		c.reload(text("drain", two.addr))
		if got := c.sessionsAt(one.addr); got != first || first == 0 {
			t.Errorf("%d of %d sessions are left of a backend that drains", got, first)
		}
		c.reload(text("cut", one.addr, two.addr))
		c.reload(text("cut", two.addr))
		eventually(t, patience, "its sessions are cut", func() bool { return c.closedAs("backend_left") == first })
		ends := 0
		for _, conn := range conns {
			if err := sentBack(conn); err != nil {
				ends++
			}
		}
		if ends != first || c.closedAs("backend_left") != first || c.sessionsAt(two.addr) != 20-first {
			t.Errorf("%d ended, %d as backend_left, want %d", ends, c.closedAs("backend_left"), first)
		}
		c.tells(`"msg":"sessions were ended"`, func(n int) bool { return n == 1 })
		// Its number is free again, and the target that gets it keeps its sessions.
		three := echoing(t)
		c.reload(text("cut", two.addr, three.addr))
		c.reload(text("cut", three.addr))
		conn := dial(t, c.addr())
		if err := sentBack(conn); err != nil {
			t.Error(err)
		}
	})
}

// The same of a target that leaves because its name stands for another address now.
func TestLeaveByName(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		names, one, two := startNameServer(t), echoing(t), echoing(t)
		names.serves(false, one.addr)
		c := startChanging(t, mode, fmt.Sprintf("[dns]\nservers = [%q]\nttl_min = \"500ms\"\n", names.addr)+acceptorsTable(2, "auto")+
			listenerAt("main", "127.0.0.1:0", "app")+poolOf("app", []string{"srv:_app._tcp.test"}, "leave = \"cut\""))
		var conns []net.Conn
		for range 8 {
			conns = append(conns, dial(t, c.addr()))
		}
		eventually(t, patience, "all are there", func() bool { return c.list("-to", one.addr, "-state", "relaying").Matched == 8 })
		names.serves(true) // a name server that fails takes no backend away
		names.serves(false, one.addr, two.addr)
		eventually(t, patience, "the second is there", func() bool { return strings.Contains(fmt.Sprint(c.status().Pools), two.addr) })
		if n := c.closedAs("backend_left"); n != 0 {
			t.Errorf("%d were cut while their target was there", n)
		}
		names.serves(false, two.addr)
		for _, conn := range conns {
			expectReset(t, conn)
		}
		eventually(t, patience, "all are counted", func() bool { return c.closedAs("backend_left") == 8 })
		conn := dial(t, c.addr())
		if err := sentBack(conn); err != nil {
			t.Error(err)
		}
	})
}

// sentBack has an echo answer.
func sentBack(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// comesAgain is a client that connects anew whenever its session ends, as many drivers do.
func comesAgain(addr string, done <-chan struct{}) {
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		over := make(chan struct{})
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			close(over)
		}()
		select {
		case <-over:
			conn.Close()
		case <-done:
			conn.Close()
			<-over
			return
		}
	}
}

// A backend that joins is given sessions of the others, and one that is drained gives all of
// its own away, no more than may be at a time.
func TestRebalance(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		one, two := echoing(t), echoing(t)
		text := func(perSecond int, backends ...string) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "main") +
				poolOf("main", backends, "pick = \"least_sessions\"", fmt.Sprintf("rebalance = {per_second = %d, share = 1, jitter = 0}", perSecond))
		}
		c := startChanging(t, mode, text(0, one.addr))
		done := make(chan struct{})
		defer close(done)
		for range 40 {
			go comesAgain(c.addr(), done)
		}
		eventually(t, patience, "all are there", func() bool { return c.list("-state", "relaying").Matched == 40 })

		ask := func(want int, answer string, args ...string) {
			t.Helper()
			if status, out, faults := c.command(rebalance, args...); status != want || !strings.Contains(out+faults, answer) {
				t.Errorf("%v: status %d, %s%s", args, status, out, faults)
			}
		}
		c.reload(text(0, one.addr, two.addr)) // off: no session is moved
		ask(exitOK, "20 sessions of pool main would end", "main", "-dry-run")
		ask(exitOK, "4 sessions of pool main would end within about 2s, at 2 a second\n"+one.addr+": 40 sessions, 20 too many", "main", "-dry-run", "-per-second", "2", "-share", "0.1")
		ask(exitFault, "say how many a second may end", "main")
		ask(exitFault, `there is no pool "mian"`, "mian")
		ask(exitUsage, "share must be", "main", "-share", "2")
		ask(exitUsage, "POOL is missing")
		if n := c.closedAs("rebalanced"); n != 0 || c.sessionsAt(one.addr) != 40 {
			t.Fatalf("%d were moved", n)
		}
		ask(exitOK, "up to 4 sessions of pool main end, 100 a second", "main", "-per-second", "100", "-share", "0.1")
		eventually(t, patience, "a few are moved", func() bool { return c.closedAs("rebalanced") == 4 && c.sessionsAt(two.addr) == 4 })

		c.reload(text(1000, one.addr)) // two leaves, and drains
		c.reload(text(1000, one.addr, two.addr))
		eventually(t, patience, "both have as many", func() bool { return c.sessionsAt(one.addr) == 20 && c.sessionsAt(two.addr) == 20 })
		c.command(backend, one.addr, "drain")
		eventually(t, patience, "one has none", func() bool { return c.sessionsAt(one.addr) == 0 && c.sessionsAt(two.addr) == 40 })
		c.command(backend, one.addr, "enable")
		eventually(t, patience, "both have as many again", func() bool { return c.sessionsAt(one.addr) == 20 && c.sessionsAt(two.addr) == 20 })
		moved := c.closedAs("rebalanced")
		ask(exitOK, "are spread as its weights say", "main")
		if n := c.closedAs("rebalanced"); n != moved || c.closedAs("worker_died")+c.closedAs("killed")+c.closedAs("backend_reset") != 0 {
			t.Errorf("%d were moved though nothing had changed", n-moved)
		}
		c.tells(`"msg":"rebalance was asked for","pool":"main","dry_run":true`, func(n int) bool { return n == 2 })
	})
}
