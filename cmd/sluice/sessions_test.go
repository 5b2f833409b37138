package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
)

// command runs a command of this program as a person would.
func (c *changing) command(run func(env, []string) int, args ...string) (status int, out, faults string) {
	var stdout, stderr bytes.Buffer
	// Flags come behind words.
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	args = append(append(args[:words:words], "-socket", c.socket), args[words:]...)
	status = run(env{stdout: &stdout, stderr: &stderr, vars: config.Environment{}}, args)
	return status, stdout.String(), stderr.String()
}

// list is the answer of sluice sessions.
func (c *changing) list(args ...string) (l admin.SessionList) {
	c.t.Helper()
	status, out, faults := c.command(sessions, append(args, "-json")...)
	if status != exitOK || json.Unmarshal([]byte(out), &l) != nil {
		c.t.Fatalf("%v: status %d, %s%s", args, status, out, faults)
	}
	return l
}

func TestSessions(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		one, two := echoing(t), echoing(t)
		c := startChanging(t, mode, acceptorsTable(2, "auto")+
			listenerAt("web", "127.0.0.1:0", "app")+listenerAt("db", "127.0.0.1:0", "data")+
			poolOf("app", []string{one.addr})+poolOf("data", []string{two.addr})+"[log]\naccess = \"all\"\n")
		var web, db []net.Conn
		for range 6 {
			web, db = append(web, dial(t, c.addrs["web"])), append(db, dial(t, c.addrs["db"]))
		}
		send(t, db[0], "hello")
		expect(t, db[0], "hello")
		eventually(t, patience, "all are there", func() bool { return c.list("-state", "relaying").Matched == 12 })
		all := c.list("-to", two.addr, "-pool", "data", "-listener", "db", "-from", "10.0.0.0/8,127.0.0.1", "-sort", "bytes")
		if len(all.Sessions) != 6 || all.Matched != 6 || all.Open != 12 || len(all.Silent) != 0 {
			t.Fatalf("%+v", all)
		}
		s := all.Sessions[0]
		if s.Client != db[0].LocalAddr().String() || s.Listener != "db" || s.Pool != "data" || s.Backend != two.addr || s.State != "relaying" || s.Received != 5 || s.AgeSeconds <= 0 {
			t.Errorf("%+v", s)
		}
		if got := c.list("-limit", "3"); len(got.Sessions) != 3 || got.Matched != 12 {
			t.Errorf("%+v", got)
		}
		if got := c.list(s.ID); len(got.Sessions) != 1 || got.Sessions[0].ID != s.ID {
			t.Errorf("%+v", got)
		}
		_, text, _ := c.command(sessions, "-to", two.addr)
		if !strings.Contains(text, s.ID) || !strings.HasSuffix(text, "6 shown, 6 match, 12 open\n") {
			t.Errorf("%s", text)
		}

		refuses := func(run func(env, []string) int, want int, answer string, args ...string) {
			t.Helper()
			if status, out, faults := c.command(run, args...); status != want || !strings.Contains(faults, answer) || out != "" {
				t.Errorf("%v: status %d, %s%s", args, status, out, faults)
			}
		}
		refuses(sessions, exitFault, "there is no listener", "-listener", "wbe")
		refuses(sessions, exitFault, "there is no such backend", "-to", "10.9.9.9:1")
		refuses(sessions, exitFault, "is no session", "2-x-1")
		refuses(sessions, exitUsage, "state must be one of", "-state", "open")
		refuses(sessions, exitUsage, "sort must be one of", "-sort", "size")
		refuses(sessions, exitUsage, "no address and no prefix", "-from", "10.0.0.0/33")
		refuses(sessions, exitUsage, "limit must be", "-limit", "10001")
		refuses(killCommand, exitFault, "12 sessions would end; say how many may at most: -max 12")
		refuses(killCommand, exitFault, "nothing ended: 6 match, which is more than -max 5", "-listener", "db", "-max", "5")
		refuses(killCommand, exitFault, "there is no such backend", "-to", "nobody:1", "-max", "100")

		kills := func(answer string, args ...string) {
			t.Helper()
			if status, out, faults := c.command(killCommand, args...); status != exitOK || out != answer+"\n" {
				t.Errorf("%v: status %d, %s%s", args, status, out, faults)
			}
		}
		kills("1 session ended", s.ID, "-reason", "stuck")
		expectReset(t, db[0])
		refuses(killCommand, exitFault, "no session "+s.ID+" is open", s.ID)
		kills("5 sessions ended", "-listener", "db", "-max", "5")
		for _, conn := range db[1:] {
			expectReset(t, conn)
		}
		if got := c.list(); got.Matched != 6 {
			t.Errorf("%d are left", got.Matched)
		}
		send(t, web[0], "still here")
		expect(t, web[0], "still here")
		if n := c.metric("sluice_listener_closed_connections_total", `listener="db"`, `reason="killed"`); n != 6 {
			t.Errorf("%v counted as killed", n)
		}
		c.tells(fmt.Sprintf(`"msg":"kill was asked for","id":%q,"max":1,"per_second":0,"reason":"stuck","text":"1 session ended","uid":%d,"pid":%d,"ok":true`, s.ID, os.Geteuid(), os.Getpid()), func(n int) bool { return n == 1 })
		kills("6 sessions end, 100 a second", "-pool", "app", "-max", "9", "-per-second", "100")
		eventually(t, patience, "all have ended", func() bool { return c.list().Open == 0 })
		c.tells(`"msg":"kill was asked for"`, func(n int) bool { return n == 7 }) // also those that were refused
	})
}

// An acceptor that is stopped delays the answer for seconds at most and is named in it, and
// what was asked of it does not happen when it goes on.
func TestSessionsOfStoppedAcceptor(t *testing.T) {
	t.Parallel()
	c := startChanging(t, "process", acceptorsTable(2, "auto")+listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{echoing(t).addr}))
	var conns []net.Conn
	for range 8 {
		conns = append(conns, dial(t, c.addr()))
	}
	eventually(t, patience, "all are there", func() bool { return c.list("-state", "relaying").Matched == 8 })
	held := int(c.status().Acceptors[1].Sessions)
	resume := c.stopAcceptor("process", 1)
	defer resume()
	if got := c.list(); len(got.Silent) != 1 || got.Silent[0] != 1 || got.Matched != 8-held {
		t.Errorf("%d of %d sessions, silent %v", got.Matched, 8-held, got.Silent)
	}
	status, _, faults := c.command(killCommand, "-max", "8")
	if status != exitFault || !strings.Contains(faults, "no whole answer in time from acceptor 1") {
		t.Errorf("status %d, %s", status, faults)
	}
	resume()
	eventually(t, patience, "it answers again", func() bool { return len(c.list().Silent) == 0 })
	if got := c.list(); got.Matched != held {
		t.Errorf("%d of %d sessions are left", got.Matched, held)
	}
	for _, conn := range conns {
		conn.Close()
	}
}
