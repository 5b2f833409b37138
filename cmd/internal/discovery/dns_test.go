package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestNameFollowsItsAnswers(t *testing.T) {
	s := newServer(t)
	s.has("A db.example.", "10.0.0.2", "10.0.0.1")
	s.has("AAAA db.example.", "::ffff:10.0.0.9") // IPv4 in IPv6's clothes
	w := resolve(t, Settings{}, s)
	w.want("db.example")
	w.Wait(t.Context())
	if got := w.text("db.example"); got != "10.0.0.1, 10.0.0.2, 10.0.0.9" {
		t.Error(got)
	}
	<-w.Changed()
	s.has("A db.example.", "10.0.0.3")
	s.has("AAAA db.example.")
	w.stands("db.example", "10.0.0.3")
	<-w.Changed()
	w.want()
	if got := w.Targets("db.example"); got != nil {
		t.Error("still known:", got)
	}
}

// As often as the TTL says, and no more.
func TestNoMoreQueriesThanTheTTL(t *testing.T) {
	s := newServer(t)
	s.has("A db.example.", "10.0.0.1")
	s.has("AAAA db.example.", "fd00::1")
	s.has("A long.example.", "10.0.0.1")
	s.has("AAAA long.example.", "fd00::1")
	w := resolve(t, Settings{}, s)
	begin := time.Now()
	w.want("db.example")
	w.eventually(func() string {
		if n := s.count("A db.example."); n < 4 {
			return fmt.Sprint(n, " queries")
		}
		return ""
	})
	took := time.Since(begin)
	for _, key := range []string{"A db.example.", "AAAA db.example."} {
		if n, most := s.count(key), int(took.Seconds())+1; n > most {
			t.Errorf("%d queries for %s in %v with a TTL of 1 s, want at most %d", n, key, took, most)
		}
	}
	if took < 3*time.Second {
		t.Errorf("4 queries in %v", took)
	}
}

// Two pools that name the same host ask once; the shorter interval holds.
func TestIntervalIsAnUpperBound(t *testing.T) {
	s := newServer(t)
	s.ttl = 3600
	s.has("A db.example.", "10.0.0.1")
	w := resolve(t, Settings{}, s)
	w.Want([]Name{{"db.example", 0}, {"db.example", 200 * time.Millisecond}, {"db.example", time.Hour}})
	w.stands("db.example", "10.0.0.1")
	s.has("A db.example.", "10.0.0.2")
	w.stands("db.example", "10.0.0.2")
}

// A type that is not answered takes nothing from the other, and delays it by no more than
// the grace.
func TestTypesAreApart(t *testing.T) {
	for _, what := range []string{"silent", "servfail", "refused", "nxdomain"} {
		for _, bad := range []string{"A", "AAAA"} {
			t.Run(bad+" "+what, func(t *testing.T) {
				t.Parallel()
				s := newServer(t)
				s.has("A db.example.", "10.0.0.1")
				s.has("AAAA db.example.", "fd00::1")
				s.do(bad+" db.example.", what)
				w := resolve(t, Settings{}, s)
				w.Want([]Name{{"db.example", time.Second}}) // no answer says for how long it holds
				begin := time.Now()
				w.Wait(t.Context())
				if took := time.Since(begin); took > 4*time.Second { // a try alone takes 5 s
					t.Errorf("the name is there after %v", took)
				}
				w.stands("db.example", map[string]string{"A": "fd00::1", "AAAA": "10.0.0.1"}[bad])
				s.do(bad+" db.example.", "")
				if what != "silent" { // that takes its time
					w.eventually(func() string {
						if got := w.Targets("db.example"); len(got) != 2 {
							return fmt.Sprint(got)
						}
						return ""
					})
				}
			})
		}
	}
}

func TestTruncatedAnswersComeOverTCP(t *testing.T) {
	s := newServer(t)
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("10.0.1.%d", i))
	}
	s.has("A many.example.", all...)
	w := resolve(t, Settings{}, s)
	w.want("many.example")
	w.Wait(t.Context())
	if got := len(w.Targets("many.example")); got != 100 {
		t.Errorf("%d addresses", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tcp == 0 {
		t.Error("nobody came over TCP")
	}
}

// Old servers that do not know EDNS, and forged answers.
func TestOddServers(t *testing.T) {
	for _, what := range []string{"formerr", "forged", "truncate"} {
		t.Run(what, func(t *testing.T) {
			s := newServer(t)
			s.has("A db.example.", "10.0.0.1")
			s.do("*", what)
			w := resolve(t, Settings{}, s)
			w.want("db.example")
			w.stands("db.example", "10.0.0.1")
		})
	}
}

// Each server that fails is passed over, and asked last from then on if it was silent.
func TestSecondServer(t *testing.T) {
	for _, what := range []string{"silent", "servfail", "refused"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			first, second := newServer(t), newServer(t)
			first.do("*", what)
			second.has("A db.example.", "10.0.0.1")
			second.has("AAAA db.example.", "fd00::1")
			second.has("A other.example.", "10.0.0.2")
			w := resolve(t, Settings{Timeout: time.Second}, first, second)
			w.want("db.example")
			w.Wait(t.Context())
			w.eventually(func() string {
				if len(w.Targets("db.example")) != 2 {
					return w.text("db.example")
				}
				return ""
			})
			if what == "silent" {
				w.want("db.example", "other.example")
				w.stands("other.example", "10.0.0.2")
				if n := first.count("A other.example."); n != 0 {
					t.Errorf("the silent server was asked %d times more", n)
				}
			}
		})
	}
}

// Failure keeps what there was for hold; answers that there is nothing are believed when
// they are repeated.
func TestFailuresAndDenials(t *testing.T) {
	for _, test := range []struct {
		what   string
		hold   time.Duration
		loses  bool
		result Result
	}{
		{"servfail", time.Hour, false, Failed},
		{"servfail", 300 * time.Millisecond, true, Failed},
		{"nxdomain", time.Hour, true, Missing},
		{"empty", time.Hour, true, Empty},
	} {
		t.Run(fmt.Sprint(test.what, test.hold), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.has("A db.example.", "10.0.0.1")
			w := resolve(t, Settings{Hold: test.hold}, s)
			w.Want([]Name{{"db.example", time.Second}})
			w.stands("db.example", "10.0.0.1")
			if test.what == "empty" {
				s.has("A db.example.")
			} else {
				s.do("*", test.what)
			}
			if test.loses {
				w.stands("db.example", "")
			} else {
				w.ended(test.result, 4)
				w.fact("db.example", func(f Facts) bool { return f.Stale && f.Addresses == 1 })
				w.stands("db.example", "10.0.0.1")
			}
			w.ended(test.result, 1)
			w.tells("backend name does not resolve")
			s.do("*", "")
			s.has("A db.example.", "10.0.0.2")
			w.stands("db.example", "10.0.0.2")
			w.tells("backend name resolves again")
			w.fact("db.example", func(f Facts) bool { return !f.Stale && time.Since(f.Answered) < time.Minute })
		})
	}
}

// One slip of a server takes nothing away.
func TestOneDenialIsNotBelieved(t *testing.T) {
	s := newServer(t)
	s.has("A db.example.", "10.0.0.1")
	w := resolve(t, Settings{TTLMin: time.Second}, s)
	w.want("db.example")
	w.stands("db.example", "10.0.0.1")
	s.do("A db.example.", "nxdomain")
	w.ended(Missing, 1)
	s.do("A db.example.", "")
	w.ended(Found, 3)
	w.stands("db.example", "10.0.0.1")
	if got := w.log.String(); strings.Contains(got, "resolves again") != strings.Contains(got, "does not resolve") {
		t.Error(got)
	}
}

// A silent name delays no other, however many of it there are.
func TestSlowNamesDelayNoOther(t *testing.T) {
	s := newServer(t)
	var hosts []string
	for i := range 40 {
		hosts = append(hosts, fmt.Sprintf("slow%d.example", i))
		s.do(fmt.Sprintf("AAAA slow%d.example.", i), "silent")
		s.has(fmt.Sprintf("A slow%d.example.", i), "10.0.0.1")
	}
	s.has("A good.example.", "10.0.0.1")
	w := resolve(t, Settings{}, s)
	w.want(hosts...)
	w.eventually(func() string { // all A of them, while each AAAA takes 10 s
		for _, h := range hosts {
			if len(w.Targets(h)) == 0 {
				return h
			}
		}
		return ""
	})
	w.want(append(hosts, "good.example")...)
	begin := time.Now()
	w.stands("good.example", "10.0.0.1")
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestSearch(t *testing.T) {
	s := newServer(t)
	s.has("A db.b.example.", "10.0.0.1")
	s.has("AAAA db.c.example.", "fd00::1") // another host
	s.has("A db.x.y.", "10.0.0.2")
	w := resolve(t, Settings{Search: []string{"a.example", "b.example", "c.example"}}, s)
	w.want("db", "db.x.y", "db.")
	w.stands("db", "10.0.0.1")
	w.stands("db.x.y", "10.0.0.2")
	w.stands("db.", "")
	w.ended(Found, 4)
	w.stands("db", "10.0.0.1")
	if n := s.count("A db.a.example."); n != 1 {
		t.Errorf("what was found is searched for again: %d queries", n)
	}
	s.hasNot("A db.b.example.") // it moves
	s.has("A db.a.example.", "10.0.0.7")
	s.hasNot("AAAA db.c.example.")
	w.stands("db", "10.0.0.7")
}

// A type that is slow or not answered passes over no domain: what the other type found
// further on is another host.
func TestSearchPassesOverNoDomain(t *testing.T) {
	for _, test := range []struct{ key, what string }{
		{"A db.a.example.", "silent"},
		{"A db.b.example.", "silent"},
		{"A db.a.example.", "servfail"},
		{"A db.b.example.", "refused"},
	} {
		t.Run(test.key+" "+test.what, func(t *testing.T) {
			s := newServer(t)
			s.ttl = 3600
			s.has("A db.b.example.", "10.0.0.1")
			s.has("AAAA db.c.example.", "fd00::1") // another host
			s.do(test.key, test.what)
			w := resolve(t, Settings{Search: []string{"a.example", "b.example", "c.example"}, Timeout: time.Second, Attempts: 60}, s)
			w.want("db")
			if test.key == "A db.a.example." && test.what != "silent" {
				w.stands("db", "10.0.0.1")
			} else {
				w.stands("db", "fd00::1")
			}
			s.do(test.key, "")
			w.stands("db", "10.0.0.1")
			w.mu.Lock()
			defer w.mu.Unlock()
			if full := w.names["db"].full; full != "db.b.example." {
				t.Error("found as", full)
			}
		})
	}
}

// A server that denies a name for one type, where it has another, makes nobody search on.
func TestDeniedTypeIsNotSearchedFor(t *testing.T) {
	s := newServer(t)
	s.has("A db.a.example.", "10.0.0.1")
	s.do("AAAA db.a.example.", "nxdomain") // RFC 4074, 4.2
	s.has("AAAA db.b.example.", "fd00::1")
	w := resolve(t, Settings{Search: []string{"a.example", "b.example"}}, s)
	w.Want([]Name{{"db", 100 * time.Millisecond}})
	w.stands("db", "10.0.0.1")
	w.ended(Missing, 3)
	w.stands("db", "10.0.0.1")
	if n := s.count("AAAA db.b.example."); n > 1 {
		t.Errorf("%d queries for another host", n)
	}
}

func TestSystemsFiles(t *testing.T) {
	dir := t.TempDir()
	set := Settings{resolvPath: filepath.Join(dir, "resolv.conf"), hostsPath: filepath.Join(dir, "hosts")}
	replace(t, set.hostsPath, "10.0.0.1 db.example other # no\n\n#10.0.0.3 db.example\nfd00::1\tDB.example.\n300.1.1.1 bad\n")
	replace(t, set.resolvPath, "nameserver 127.0.0.7\nnameserver ::1\nsearch a.example b.example\noptions ndots:3 timeout:1 attempts:4\n")
	w := resolve(t, set)
	w.want("db.example", "localhost", "x.localhost")
	w.Wait(t.Context())
	if got := w.text("db.example"); got != "10.0.0.1, fd00::1" && got != "fd00::1, 10.0.0.1" {
		t.Error(got)
	}
	for _, host := range []string{"localhost", "x.localhost"} {
		if got := len(w.Targets(host)); got != 2 {
			t.Error(host, got)
		}
	}
	w.mu.Lock()
	a, conf := w.askerLocked(time.Now())
	w.mu.Unlock()
	want := "[127.0.0.7:53 [::1]:53] 5s 4 [x.y.a.example. x.y.b.example. x.y.] [x.y.z.q. x.y.z.q.a.example. x.y.z.q.b.example.] [x.]"
	if got := fmt.Sprint(a.servers, a.timeout, a.attempts, conf.candidates("x.y"), conf.candidates("x.y.z.q"), conf.candidates("x.")); got != strings.ReplaceAll(want, " 5s 4 ", " 5s 4 ") {
		t.Errorf("%s, want %s", got, want)
	}
	replace(t, set.resolvPath, "nameserver 127.0.0.8\n") // read again when it changes
	replace(t, set.hostsPath, "10.0.0.2 db.example\n")
	if got := fmt.Sprint(w.system.configured().servers, w.system.inHosts("db.EXAMPLE.")); got != "[127.0.0.8:53] [10.0.0.2]" {
		t.Error(got)
	}
}

func TestServices(t *testing.T) {
	s := newServer(t)
	s.has("SRV _pg._tcp.example.", "10 3 5432 db1.example.", "10 0 5433 db2.example.", "20 1 5432 db3.example.", "10 1 0 db4.example.")
	s.has("A db1.example.", "10.0.0.1", "10.0.0.11")
	s.has("A db2.example.", "10.0.0.2")
	s.has("A db3.example.", "10.0.0.3")
	w := resolve(t, Settings{}, s)
	w.want("srv:_pg._tcp.example")
	w.Wait(t.Context())
	w.stands("srv:_pg._tcp.example", "10.0.0.1:5432 weight=3, 10.0.0.11:5432 weight=3, 10.0.0.2:5433 weight=1, 10.0.0.3:5432 weight=1 backup")
	s.has("SRV _pg._tcp.example.", "0 65535 1 db3.example.", "0 6553 1 db1.example.", "0 1 1 db2.example.")
	w.stands("srv:_pg._tcp.example", "10.0.0.1:1 weight=25, 10.0.0.11:1 weight=25, 10.0.0.2:1 weight=1, 10.0.0.3:1 weight=256")
	s.has("A db1.example.", "10.0.0.12")
	w.stands("srv:_pg._tcp.example", "10.0.0.12:1 weight=25, 10.0.0.2:1 weight=1, 10.0.0.3:1 weight=256")
	w.fact("srv:_pg._tcp.example", func(f Facts) bool { return f.Addresses == 3 })
	s.has("SRV _pg._tcp.example.", "0 0 0 .") // decidedly not there
	w.stands("srv:_pg._tcp.example", "")
	w.want()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.names) != 0 || len(w.queue) != 0 {
		t.Errorf("%d names and %d entries are left", len(w.names), len(w.queue))
	}
}

func TestAliases(t *testing.T) {
	s := newServer(t)
	s.has("CNAME www.example.", "a.example.")
	s.has("CNAME a.example.", "b.example.")
	s.has("A b.example.", "10.0.0.1", "0.0.0.0")
	s.has("CNAME loop.example.", "loop.example.")
	w := resolve(t, Settings{}, s)
	w.want("www.example", "loop.example")
	w.stands("www.example", "10.0.0.1")
	w.ended(Empty, 2)
	w.stands("loop.example", "")
}

// Answers that are a part of all there are, another each time, come to rest.
func TestFlapsAreDamped(t *testing.T) {
	var s set
	now := time.Now()
	a, b := ranked{addr: netip.MustParseAddr("10.0.0.1")}, ranked{addr: netip.MustParseAddr("10.0.0.2")}
	changes := 0
	for i := range 100 {
		found := []ranked{a}
		if i%2 == 1 {
			found = []ranked{b}
		}
		if s.take(found, now) {
			changes++
		}
		now = now.Add(time.Second)
	}
	if changes > 6 || len(s.now) != 2 {
		t.Errorf("%d changes, and %v in the end", changes, s.now)
	}
	for range 12 { // an address that is gone for good goes
		now = now.Add(30 * time.Second)
		s.take([]ranked{a}, now)
	}
	if len(s.now) != 1 {
		t.Errorf("%v stay", s.now)
	}
	for range 30 {
		now = now.Add(30 * time.Second)
		s.take([]ranked{a}, now)
	}
	if len(s.history) != 0 {
		t.Errorf("remembered are %v", s.history)
	}
}

func TestOrder(t *testing.T) {
	if r := rank(netip.MustParseAddr("127.0.0.1")); r.noSource || r.mismatched {
		t.Errorf("%+v", r)
	}
	for _, test := range []struct{ first, second ranked }{
		{ranked{precedence: -1}, ranked{noSource: true, precedence: -50}},
		{ranked{precedence: -1}, ranked{mismatched: true, precedence: -50}},
		{ranked{precedence: -precedenceOf(netip.MustParseAddr("2a00::1"))}, ranked{precedence: -precedenceOf(netip.MustParseAddr("192.0.2.1"))}},
		{ranked{precedence: -precedenceOf(netip.MustParseAddr("192.0.2.1"))}, ranked{precedence: -precedenceOf(netip.MustParseAddr("fd00::1"))}},
		{ranked{scope: scopeOf(netip.MustParseAddr("fe80::1%lo"))}, ranked{scope: scopeOf(netip.MustParseAddr("2a00::1"))}},
		{ranked{addr: netip.MustParseAddr("10.0.0.1")}, ranked{addr: netip.MustParseAddr("10.0.0.2")}},
	} {
		if test.first.compare(test.second) >= 0 || test.second.compare(test.first) <= 0 {
			t.Errorf("%+v is not before %+v", test.first, test.second)
		}
	}
}

// Names that come and go leave nothing behind, and no more lookups run than may.
func TestManyNamesComeAndGo(t *testing.T) {
	names := 10_000
	if testing.Short() {
		names = 200
	}
	s := newServer(t)
	for i := range names {
		s.has(fmt.Sprintf("A h%d.example.", i), "10.0.0.1")
	}
	w := resolve(t, Settings{Concurrency: 16}, s)
	before := runtime.NumGoroutine()
	for i := 0; i < names; i += 100 {
		var all []string
		for j := i; j < min(i+100, names); j++ {
			all = append(all, fmt.Sprintf("h%d.example", j))
		}
		w.want(all...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		w.Wait(ctx)
		cancel()
		if got := len(w.Targets(all[0])); got != 1 {
			t.Fatalf("%s has %d addresses\n%s", all[0], got, w.log)
		}
		if n := runtime.NumGoroutine(); n > before+200 {
			t.Fatalf("%d goroutines, %d before", n, before)
		}
	}
	w.want()
	w.eventually(func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		left := len(w.names) + len(w.queue) + len(w.lanes[0].ready) + len(w.lanes[1].ready) + w.lanes[0].running + w.lanes[1].running
		if left != 0 {
			return fmt.Sprint(left, " things are left")
		}
		return ""
	})
	w.eventually(func() string {
		if n := runtime.NumGoroutine(); n > before+8 {
			return fmt.Sprintf("%d goroutines, %d before", n, before)
		}
		return ""
	})
}

// After a change of servers what failed is asked there at once.
func TestConfigureAsksTheNewServers(t *testing.T) {
	bad, good := newServer(t), newServer(t)
	bad.do("*", "servfail")
	good.has("A db.example.", "10.0.0.1")
	w := resolve(t, Settings{TTLMin: time.Hour}, bad)
	w.want("db.example")
	w.ended(Failed, 2)
	w.Configure(Settings{Servers: []netip.AddrPort{good.addr}, TTLMin: time.Hour, TTLMax: time.Hour, Hold: time.Hour, Concurrency: 8})
	w.stands("db.example", "10.0.0.1")
}

// Nothing listens at the server: it is the next one's turn at once.
func TestServerThatIsNotThere(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	s := newServer(t)
	s.has("A db.example.", "10.0.0.1")
	w := resolve(t, Settings{Servers: []netip.AddrPort{gone}}, s)
	w.want("db.example")
	begin := time.Now()
	w.stands("db.example", "10.0.0.1")
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
}
