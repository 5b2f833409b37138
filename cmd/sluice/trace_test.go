package main

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/admin"
)

// traced is the answer of sluice trace -json.
func (c *changing) traced(args ...string) (x admin.Trace) {
	c.t.Helper()
	status, out, faults := c.command(trace, append(args, "-json")...)
	if status != exitOK || json.Unmarshal([]byte(out), &x) != nil {
		c.t.Fatalf("%v: status %d, %s%s", args, status, out, faults)
	}
	return x
}

// stepWords are the steps of a session, with what they are about.
func stepWords(s admin.TracedSession) (all []string) {
	for i, step := range s.Steps {
		all = append(all, strings.Join(strings.Fields(step.Step+" "+step.Address+" "+step.Reason), " "))
		if i > 0 && step.Time.Before(s.Steps[i-1].Time) || step.Time.Before(s.Begun) {
			all = append(all, "out of order")
		}
	}
	return all
}

const traceTable = "[log]\ntrace = true\n"

// A session that one backend refuses and another takes is told step by step, while it is open
// and after its end; so is a connection that was refused, and what was before steps were
// recorded as far as it is known.
func TestTrace(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		dead, alive := refusing(t), echoing(t).addr
		fresh := refusing(t) // one that is not known to be dead
		text := func(log string) string {
			return log + acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app", `deny = ["127.6.0.0/16"]`) + poolOf("app", []string{dead, alive}, `pick = "first"`)
		}
		c := startChanging(t, mode, text(""))
		early := dialFrom(t, netip.MustParseAddr("127.3.0.1"), c.addr())
		talk(t, early)
		if x := c.traced("127.3.0.1"); x.Recording || len(x.Sessions) != 1 || x.Sessions[0].State != admin.TraceOpen || !x.Sessions[0].Partial || x.Sessions[0].Now.Address != alive {
			t.Errorf("%+v", x)
		}
		dead = fresh
		c.reload(text(traceTable))
		conn := dialFrom(t, netip.MustParseAddr("127.4.0.1"), c.addr())
		talk(t, conn)
		steps := []string{"accepted", "dials " + dead, "dial_failed " + dead + " refused", "dials " + alive, "connected " + alive}
		x := c.traced(conn.LocalAddr().String())
		if len(x.Sessions) != 1 || !x.Recording {
			t.Fatalf("%+v", x)
		}
		s := x.Sessions[0]
		if s.State != admin.TraceOpen || s.Partial || s.Client != conn.LocalAddr().String() || s.Listener != "main" || s.Now == nil || s.Now.ID != s.ID || !slices.Equal(stepWords(s), steps) {
			t.Errorf("%+v: %q", s, stepWords(s))
		}
		conn.CloseWrite()
		expectEnd(t, conn)
		eventually(t, patience, "it has ended", func() bool { return c.traced(s.ID).Sessions[0].State == admin.TraceClosed })
		closed := c.traced(s.ID).Sessions[0]
		if !slices.Equal(stepWords(closed), append(steps, "closed client_eof")) || closed.Now != nil {
			t.Errorf("%q", stepWords(closed))
		}
		if last := closed.Steps[len(closed.Steps)-1]; last.In != 1 || last.Out != 1 || last.Path != "copy" || last.Seconds <= 0 {
			t.Errorf("%+v", last)
		}
		told := c.inWords(trace, s.ID)
		for _, want := range []string{"session " + s.ID + " of " + s.Client + " at listener main, acceptor ", ": closed TIME", "connects to " + dead, "that failed: refused", "connects to " + alive, "connected, in ", "closed: client_eof 1 bytes in, 1 out, by copy"} {
			if !strings.Contains(told, want) {
				t.Errorf("no %q in\n%s", want, told)
			}
		}
		early.Close()
		eventually(t, patience, "the early one has ended", func() bool { return c.traced("127.3.0.1").Sessions[0].State == admin.TraceClosed })
		if e := c.traced("127.3.0.1").Sessions[0]; !e.Partial || stepWords(e)[0] != "accepted" {
			t.Errorf("%+v", e)
		}
		if entersFrom(t, "127.6.0.1", c.addr()) {
			t.Error("it is served")
		}
		if r := c.traced("127.6.0.1"); len(r.Sessions) != 1 || r.Sessions[0].State != admin.TraceRejected || !slices.Equal(stepWords(r.Sessions[0]), []string{"rejected denied"}) || r.Sessions[0].ID != "" {
			t.Errorf("%+v", r)
		}
		if r := c.traced("1-5-abc"); len(r.Sessions) != 0 || !strings.Contains(r.Text, "session 1-5-abc is not open and not in the records") {
			t.Errorf("%+v", r)
		}
		if r := c.traced("40-5-abc"); !strings.Contains(r.Text, "there is no acceptor 40") {
			t.Errorf("%+v", r)
		}
		for _, args := range [][]string{{"x"}, {"1-2"}} {
			if status, _, faults := c.command(trace, args...); status != exitFault || !strings.Contains(faults, "is no session") {
				t.Errorf("%v: status %d, %s", args, status, faults)
			}
		}
		if status, _, faults := c.command(trace, "1-5-abc", "-limit", "-1"); status != exitUsage || !strings.Contains(faults, "limit must be from") {
			t.Errorf("status %d, %s", status, faults)
		}
		c.reload(text(""))
		if x := c.traced(s.ID); x.Recording || len(x.Sessions) != 1 {
			t.Errorf("%+v", x)
		}
	})
}

// The sessions that end with their worker are shown as that, and those of its successor
// are others.
func TestTraceOfKilledWorker(t *testing.T) {
	t.Parallel()
	c := startChanging(t, "process", traceTable+acceptorsTable(1, "auto")+listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{echoing(t).addr}))
	conn := dial(t, c.addr())
	talk(t, conn)
	open := c.traced("127.0.0.1").Sessions[0]
	kill(t, c.status().Workers[0].PID, syscall.SIGKILL)
	expectBroken(t, conn)
	eventually(t, patience, "it is lost", func() bool { return c.traced(open.ID).Sessions[0].State == admin.TraceLost })
	again := dial(t, c.addr())
	talk(t, again)
	x := c.traced("127.0.0.1")
	if len(x.Sessions) != 2 || x.Sessions[0].State != admin.TraceOpen || x.Sessions[1].ID != open.ID || x.Sessions[0].ID == open.ID {
		t.Fatalf("%+v", x)
	}
	if words := stepWords(x.Sessions[1]); words[len(words)-1] != "worker_died worker_died" || words[0] != "accepted" {
		t.Errorf("%q", words)
	}
	if told := c.inWords(trace, open.ID); !strings.Contains(told, ": lost TIME") || !strings.Contains(told, "ended with its worker") {
		t.Errorf("%s", told)
	}
}

// expectBroken waits for the end of a connection, whatever it looks like.
func expectBroken(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes in place of the end", n)
	}
}

// What the ring has forgotten is not shown, but how far it goes back is; of the newest
// sessions of a client no more are shown than were asked for.
func TestTraceForgets(t *testing.T) {
	t.Parallel()
	var dead []string
	for range 10 {
		dead = append(dead, refusing(t))
	}
	c := startChanging(t, "goroutine", traceTable+acceptorsTable(1, "auto")+listenerAt("main", "127.0.0.1:0", "main")+listenerAt("bad", "127.0.0.1:0", "dead")+
		poolOf("main", []string{echoing(t).addr})+poolOf("dead", dead, `pick = "first"`, "retries = 10"))
	conn, kept := dial(t, c.addrs["main"]), dialFrom(t, netip.MustParseAddr("127.2.0.1"), c.addrs["main"])
	talk(t, conn)
	talk(t, kept)
	old := c.traced("127.0.0.1").Sessions[0]
	conn.CloseWrite()
	expectEnd(t, conn)
	sessions := 0
	for begun := time.Now(); c.traced(old.ID).Text == ""; { // each takes some 20 of the 16,384 records
		for range 100 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 6, 0, 1)}, Timeout: patience}
			if conn, err := d.Dial("tcp", c.addrs["bad"]); err == nil { // else its end came first
				_, _ = conn.Read(make([]byte, 1))
				conn.Close()
			}
			sessions++
		}
		if time.Since(begun) > 2*patience {
			t.Fatalf("%d sessions, and it is still there", sessions)
		}
	}
	x := c.traced(old.ID)
	if len(x.Sessions) != 0 || !strings.Contains(x.Text, "what was before is forgotten") || x.Since.Before(old.Begun) {
		t.Errorf("%+v", x)
	}
	if told := c.inWords(trace, old.ID); !strings.Contains(told, "which go back to") {
		t.Errorf("%s", told)
	}
	if x := c.traced("127.2.0.1"); len(x.Sessions) != 1 || x.Sessions[0].State != admin.TraceOpen || !x.Sessions[0].Partial || x.Sessions[0].Now == nil {
		t.Errorf("%+v", x)
	}
	if x := c.traced("127.6.0.1", "-limit", "7"); len(x.Sessions) != 7 || x.Matched < 100 || x.Sessions[0].Begun.Before(x.Sessions[6].Begun) {
		t.Errorf("%d of %d", len(x.Sessions), x.Matched)
	}
}
