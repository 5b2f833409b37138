package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sluice/cmd/internal/admin"
)

// explained is the answer of sluice explain -json.
func (c *changing) explained(client netip.Addr, args ...string) (x admin.Explanation) {
	c.t.Helper()
	status, out, faults := c.command(explain, append([]string{client.String(), "-json"}, args...)...)
	if status != exitOK || json.Unmarshal([]byte(out), &x) != nil {
		c.t.Fatalf("%v %v: status %d, %s%s", client, args, status, out, faults)
	}
	return x
}

// inWords is what it tells people. Each line must fit into a terminal.
func (c *changing) inWords(run func(env, []string) int, args ...string) string {
	c.t.Helper()
	status, out, faults := c.command(run, args...)
	if status != exitOK || faults != "" {
		c.t.Fatalf("%v: status %d, %s%s", args, status, out, faults)
	}
	for line := range strings.Lines(out) {
		if n := len([]rune(line)) - 1; n > 80 && !strings.Contains(line, "/") { // a path has no place to be cut
			c.t.Errorf("%d columns: %s", n, line)
		}
	}
	return strings.Join(strings.Fields(out), " ") + "\n"
}

// somebody is a client of this machine.
func somebody(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + r.IntN(200)), byte(r.IntN(256)), byte(1 + r.IntN(254))})
}

// With source_hash a connection goes where it is said to go, for any client, also when a
// weight in force is another, an operator has taken a backend out, and one is dead.
func TestExplainSourceHash(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		backends := map[string]*peer{"a": namer(t, 'a'), "b": namer(t, 'b'), "c": namer(t, 'c'), "d": namer(t, 'd')}
		names, order := map[string]byte{}, []string{}
		for _, name := range []string{"a", "b", "c", "d"} {
			names[backends[name].addr] = name[0]
			order = append(order, backends[name].addr)
		}
		text := func(weight string) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") +
				poolOf("app", []string{order[0], order[1] + weight, order[2], order[3]}, `pick = "source_hash"`)
		}
		c := startChanging(t, mode, text(""))
		r := rand.New(rand.NewPCG(1, 2))
		dead := ""
		check := func(what string, n int) {
			t.Helper()
			for range n {
				client := somebody(r)
				e := c.explained(client).Now[0]
				if !e.Exact || e.Outcome != admin.OutcomeBackend || len(e.Tries) < 2 {
					t.Fatalf("%s: %+v", what, e)
				}
				want := e.Tries[0]
				if want == dead {
					want = e.Tries[1]
				}
				conn := dialFrom(t, client, c.addr())
				if got := askName(t, conn); got != names[want] {
					t.Fatalf("%s: %v has %c, explained were %v, of which %c", what, client, got, e.Tries, names[want])
				}
				conn.Close()
			}
		}
		check("as configured", 200)
		c.operate(order[2], "weight", "3")
		check("with another weight in force", 60)
		c.operate(order[3], "drain")
		check("with one drained", 60)
		c.reload(text(" weight=2"))
		check("with another weight configured", 60)
		dead = order[0]
		backends["a"].kill()
		check("with one dead", 60)
		client := somebody(r)
		e := c.explained(client).Now[0]
		if i := slices.IndexFunc(e.Backends, func(b admin.ExplainedBackend) bool { return b.Address == order[3] }); i < 0 || e.Backends[i].State != "draining" || !strings.Contains(e.Backends[i].Why, "drain by uid") {
			t.Errorf("%+v", e.Backends)
		}
		if text := c.inWords(explain, client.String()); !strings.Contains(text, "ranked last: refused") || !strings.Contains(text, "whichever acceptor") {
			t.Errorf("%s", text)
		}
	})
}

// operate gives an order to sluice backend.
func (c *changing) operate(args ...string) {
	c.t.Helper()
	if status, _, faults := c.command(backend, args...); status != exitOK {
		c.t.Fatalf("%v: status %d, %s", args, status, faults)
	}
}

// Where acceptors take turns of their own, each says what it gives next, and does so; and the
// next acceptor is known where a program picks it.
func TestExplainTurns(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		var order []string
		for range 3 {
			order = append(order, echoing(t).addr)
		}
		text := func(pick string) string {
			return acceptorsTable(2, "auto") + listenerAt("main", "127.0.0.1:0", "app") + poolOf("app", []string{order[0] + " weight=2", order[1], order[2]}, "pick = \""+pick+"\"")
		}
		c := startChanging(t, mode, text("round_robin"))
		client, held := netip.MustParseAddr("127.0.0.1"), 0
		check := func(n int) {
			t.Helper()
			for range n {
				e := c.explained(client).Now[0]
				conn := dial(t, c.addr())
				talk(t, conn)
				held++
				var got admin.Session
				eventually(t, patience, "it is there", func() bool {
					l := c.list("-state", "relaying")
					i := slices.IndexFunc(l.Sessions, func(s admin.Session) bool { return s.Client == conn.LocalAddr().String() })
					if i >= 0 { // the newest may be another: acceptors tell ages one after the other
						got = l.Sessions[i]
					}
					return i >= 0 && l.Matched == held
				})
				seat, _, _ := strings.Cut(got.ID, "-")
				i := slices.IndexFunc(e.Steering.Acceptors, func(a admin.ExplainedAcceptor) bool { return strconv.Itoa(a.Number) == seat })
				if a := e.Steering.Acceptors[i]; len(a.Tries) != 3 || a.Tries[0] != got.Address {
					t.Fatalf("it has %s, explained was %+v", got.Address, e.Steering)
				}
				if next := e.Steering.Next; next != nil && strconv.Itoa(*next) != seat {
					t.Fatalf("acceptor %s took it, explained was %+v", seat, e.Steering)
				}
			}
		}
		check(12)
		c.reload(text("least_sessions"))
		check(12)
		c.reload(text("random2"))
		if e := c.explained(client).Now[0]; e.Exact || len(e.Tries) > 0 || !strings.Contains(e.Text, "drawn at random") {
			t.Errorf("%+v", e)
		}
		c.reload(text("first"))
		if e := c.explained(client).Now[0]; !e.Exact || !slices.Equal(e.Tries, order) {
			t.Errorf("%+v", e)
		}
	})
}

// talk has a backend that echoes say that it is there.
func talk(t *testing.T, conn net.Conn) {
	t.Helper()
	send(t, conn, "?")
	expect(t, conn, "?")
}

// What refuses a client, where a route leads it, and what another file would change.
func TestExplainWhy(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		one, two, three := echoing(t).addr, echoing(t).addr, echoing(t).addr
		text := func(lines ...string) string {
			return acceptorsTable(2, "hash") + listenerAt("web", "127.0.0.1:0", "app", lines...) +
				"[listener.web.route.vip]\nsource = [\"127.9.0.0/16\"]\npool = \"vip\"\n[listener.web.route.api]\nsni = [\"*.example.com\"]\npool = \"vip\"\n" +
				poolOf("app", []string{one}, `pick = "source_hash"`) + poolOf("vip", []string{two, three + " backup"}, `pick = "first"`)
		}
		c := startChanging(t, mode, text(`deny = ["127.6.0.0/16"]`, "source_sessions = 1"))
		at := func(client string, args ...string) admin.Entrance {
			t.Helper()
			return c.explained(netip.MustParseAddr(client), args...).Now[0]
		}
		if e := at("127.6.1.1"); e.Outcome != admin.OutcomeRefused || e.Reason != "denied" || e.Admitted || e.Prefix != "127.6.0.0/16" {
			t.Errorf("%+v", e)
		}
		if e := at("127.9.1.1"); e.Route != "vip" || e.Pool != "vip" || !slices.Equal(e.Tries, []string{two, three}) || e.Steering.Policy != "hash" || e.Steering.Next != nil {
			t.Errorf("%+v", e)
		}
		if e := at("127.0.0.1", "-sni", "A.example.com."); e.Route != "api" || len(e.Notes) != 0 {
			t.Errorf("%+v", e)
		}
		if e := at("127.0.0.1"); e.Route != "" || !slices.Equal(e.Tries, []string{one}) || len(e.Notes) != 1 {
			t.Errorf("%+v", e)
		}
		talk(t, dialFrom(t, netip.MustParseAddr("127.9.1.1"), c.addrs["web"]))
		if e := at("127.9.1.1"); e.Outcome != admin.OutcomeRefused || e.Reason != "source_sessions" || len(e.Limits) != 1 || e.Limits[0].Has != 1 {
			t.Errorf("%+v", e)
		}
		c.reload(text(`deny = ["127.6.0.0/16"]`, "source_sessions = 1", `over = "delay"`))
		if e := at("127.9.1.1"); e.Outcome != admin.OutcomeWaits || !strings.Contains(e.Text, "until its source has fewer sessions than source_sessions, for 10s at most") {
			t.Errorf("%+v", e)
		}
		c.reload(text(`deny = ["127.6.0.0/16"]`, "source_sessions = 1"))
		c.operate(one, "drain")
		if e := at("127.0.0.1"); e.Outcome != admin.OutcomeNoBackend || e.Reason != "no_backend" {
			t.Errorf("%+v", e)
		}
		c.operate(one, "enable")

		file := configFile(t, strings.Replace(text(`deny = ["127.7.0.0/16"]`), "backends = "+quoted([]string{one}), "backends = "+quoted([]string{three}), 1)+listenerAt("more", "127.0.0.1:0", "vip"))
		x := c.explained(netip.MustParseAddr("127.0.0.1"), "-config", file)
		if want := []string{fmt.Sprintf("web: backend %s -> %s", one, three)}; x.Config == nil || len(x.Config.Changes) != 2 || x.Config.Changes[0] != want[0] || !strings.HasPrefix(x.Config.Changes[1], "more: the listener is new; the client goes to "+two) {
			t.Errorf("%+v", x.Config)
		}
		if x := c.explained(netip.MustParseAddr("127.6.1.1"), "-config", file); x.Config.Changes[0] != "web: outcome refused denied -> backend" || x.Config.Then[0].Tries[0] != three {
			t.Errorf("%+v", x.Config)
		}
		if x := c.explained(netip.MustParseAddr("127.9.1.1"), "-config", file, "-listener", "web"); x.Config.Changes[0] != "web: outcome refused source_sessions -> backend" {
			t.Errorf("%+v", x.Config)
		}
		if x := c.explained(netip.MustParseAddr("127.0.0.1"), "-config", c.path); len(x.Config.Changes) != 0 {
			t.Errorf("%+v", x.Config.Changes)
		}
		if text := c.inWords(explain, "127.6.1.1", "-config", file); !strings.Contains(text, "is refused as denied: 127.6.0.0/16") || !strings.Contains(text, "in force this changes:") || !strings.Contains(text, "Then 127.6.1.1") {
			t.Errorf("%s", text)
		}
		if c.status().Config.Generation != 3 {
			t.Error("to explain has changed something")
		}

		refuses := func(want int, answer string, args ...string) {
			t.Helper()
			if status, out, faults := c.command(explain, args...); status != want || !strings.Contains(faults, answer) || out != "" {
				t.Errorf("%v: status %d, %s%s", args, status, out, faults)
			}
		}
		refuses(exitFault, `there is no listener "wbe"`, "127.0.0.1", "-listener", "wbe")
		refuses(exitFault, "unknown key", "127.0.0.1", "-config", configFile(t, "[listener.web]\nbnd = \":1\"\n"))
		refuses(exitFault, "no such file", "127.0.0.1", "-config", file+".no")
		refuses(exitFault, "no client can ask", "127.0.0.1", "-sni", "a b")
		refuses(exitUsage, "is no address of a client", "web")
		refuses(exitUsage, "CLIENT is missing")
	})
}

// The file in force changes nothing: what is foreseen of steering is what comes of it.
func TestExplainForeseesSteering(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		for _, count := range []int{1, 2} {
			text := func(steering string) string {
				all := acceptorsTable(count, steering) + poolOf("app", []string{echoing(t).addr}, `pick = "first"`)
				for name, line := range map[string]string{"plain": "", "shared": "share = true", "multipath": "mptcp = true"} {
					all += listenerAt(name, "127.0.0.1:0", "app", line)
				}
				return all + listenerAt("unix", "unix:"+filepath.Join(t.TempDir(), "s"), "app")
			}
			c := startChanging(t, mode, text("auto"))
			for _, steering := range []string{"auto", "least", "round_robin", "cpu", "hash"} {
				c.reload(text(steering))
				x := c.explained(netip.MustParseAddr("127.0.0.1"), "-config", c.path)
				if len(x.Now) != 4 || len(x.Config.Changes) != 0 {
					t.Errorf("%d acceptors, %s: %q", count, steering, x.Config.Changes)
				}
			}
		}
	})
}

// The files that another file names are read, and the names in them are looked up; a reload
// without effect says the same.
func TestExplainOfFileWithFiles(t *testing.T) {
	modesTogether(t, func(t *testing.T, mode string) {
		backend := echoing(t).addr
		_, port, _ := net.SplitHostPort(backend)
		text := acceptorsTable(1, "auto") + listenerAt("main", "127.0.0.1:0", "app")
		c := startChanging(t, mode, text+poolOf("app", []string{backend}))
		list, denied := configFile(t, "[\"localhost:"+port+"\"]"), configFile(t, "127.6.0.0/16\n")
		c.write(text + fmt.Sprintf("deny_file = %q\n[pool.app]\npick = \"first\"\nbackends_file = %q\n", denied, list))
		x := c.explained(netip.MustParseAddr("127.6.0.1"), "-config", c.path)
		if then := x.Config.Then[0]; then.Prefix != "127.6.0.0/16" || !slices.Contains(then.Tries, backend) {
			t.Errorf("%+v", then)
		}
		status, out, faults := c.command(reload, "-dry-run")
		if status != exitOK || !strings.Contains(out, "localhost:"+port) {
			t.Errorf("status %d, %s%s", status, out, faults)
		}
		if len(c.status().Files) != 0 {
			t.Error("the files are still followed")
		}
	})
}

// Over HTTP it is for callers with the token, and reads no files.
func TestExplainOverHTTP(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-more-than-16"
	c := startChanging(t, "goroutine", "[admin]\nallow_write = true\ntoken = \"file:"+configFile(t, token+"\n")+"\"\n"+acceptorsTable(1, "auto")+
		listenerAt("main", "127.0.0.1:0", "main")+poolOf("main", []string{echoing(t).addr}))
	for _, q := range []struct {
		path, token string
		status      int
	}{
		{"explain?client=10.0.0.1", token, 200}, {"explain?client=10.0.0.1", "", 401}, {"explain?client=10.0.0.1&config=/etc/passwd", token, 403},
		{"explain?client=10.0.0.1&listner=main", token, 400}, {"explain", token, 400},
		{"trace?client=10.0.0.1:80", token, 200}, {"trace?id=0-1-2", token, 200}, {"trace?id=0-1-2", "", 401}, {"trace?id=x", token, 400},
		{"trace?client=web", token, 400}, {"trace?client=10.0.0.1&limit=1001", token, 400}, {"trace", token, 400},
	} {
		r, err := http.NewRequest(http.MethodGet, "http://"+c.admin+"/"+q.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if q.token != "" {
			r.Header.Set("Authorization", "Bearer "+q.token)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != q.status {
			t.Errorf("%s: %d, want %d", q.path, answer.StatusCode, q.status)
		}
	}
}
