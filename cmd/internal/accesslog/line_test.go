package accesslog

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var readme = func() string {
	b, _ := os.ReadFile("../../../README.md")
	more, _ := os.ReadFile("../../../metrics/README.md")
	return string(b) + string(more)
}()

// closed is a session that ended well, with change made to it.
func closed(change func(*journal.Record)) journal.Record {
	r := journal.Record{
		Session: journal.NewID(2, 17, 0x1f3a9c0d), Listener: metrics.NewID(1, 1), Target: metrics.NewID(3, 2),
		Opened: 1_000_000_000, Dialed: 1_000_250_000, Connected: 1_001_000_000, At: 3_500_000_000,
		Received: 120, Sent: 4096, Kind: journal.KindClosed, Tries: 1, Client: journal.PeerOf(netip.MustParseAddrPort("192.0.2.7:5000")),
	}
	if change != nil {
		change(&r)
	}
	return r
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// entries are one of each kind.
func entries() []*entry {
	of := func(change func(*journal.Record)) *entry {
		r := closed(change)
		return &entry{
			Record: &r, epoch: epoch, listener: Listener{"web", "[::]:8080", "web"}, target: Target{"web", "db:5432", "10.0.0.1:5432"}, worker: 2,
		}
	}
	plain := of(nil)
	connected := of(func(r *journal.Record) { r.Kind, r.At, r.Received, r.Sent = journal.KindConnected, r.Connected, 0, 0 })
	retried := of(func(r *journal.Record) {
		r.Reason, r.Tries, r.Flags = metrics.ReasonBackendReset, 3, journal.Spliced
		r.Client = journal.PeerOf(netip.MustParseAddrPort("[2001:db8::1]:443"))
	})
	none := of(func(r *journal.Record) {
		r.Reason, r.Tries, r.Dialed, r.Connected, r.Received, r.Sent = metrics.ReasonNoBackend, 0, 0, 0, 0, 0
	})
	none.target = Target{}
	rejected := of(func(r *journal.Record) {
		r.Session, r.Kind, r.At, r.Tries, r.Dialed, r.Connected = journal.NewID(2, 0, 0), journal.KindRejected, r.Opened, 0, 0, 0
	})
	rejected.target = Target{}
	partial := of(func(r *journal.Record) { r.Flags, r.Dialed, r.Connected = journal.Partial, 0, 0 })
	died := of(func(r *journal.Record) {
		*r = journal.Record{Session: journal.NewID(2, 0, 0), Opened: r.At, At: r.At, Kind: journal.KindClosed, Reason: metrics.ReasonWorkerDied, Flags: journal.Partial}
	})
	died.target, died.lost = Target{}, 12
	odd := of(nil)
	odd.target.Backend = "a \"b\" \\c\x01\xff"
	return []*entry{plain, connected, retried, none, rejected, partial, died, odd}
}

func mustParse(t testing.TB, text string) *Format {
	t.Helper()
	f, err := ParseFormat(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLines(t *testing.T) {
	for name, text := range map[string]string{
		"json": JSON, "text": Text, "template": "{{{time}}} {client} -> {address} [{listener}] in={bytes_in} {close_code} {reason} {duration_ms}ms",
	} {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, text)
			var got []byte
			for _, e := range entries() {
				got = f.append(got, e)
			}
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if lines := strings.Count(string(got), "\n"); lines != len(entries()) {
				t.Errorf("%d lines of %d entries", lines, len(entries()))
			}
			if name != "json" {
				return
			}
			for line := range strings.Lines(string(got)) {
				var m map[string]any
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		})
	}
}

func TestParseFormat(t *testing.T) {
	for text, want := range map[string]string{
		"": `neither "json" nor "text"`, "jsn": `neither "json" nor "text"`, "{": `no "}"`, "a } b {client}": "stands alone",
		"{clint}": "no field {clint}", "{}": "no field {}", "{client}\n{time}": "one line", "{{client}}": "neither", `{"c": "{client}"}`: "no field", "{client}\t": "one line",
	} {
		if _, err := ParseFormat(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	e := entries()[0]
	if got := string(mustParse(t, "{{x}} {client}}}").append(nil, e)); got != "{x} 192.0.2.7:5000}\n" {
		t.Error(got)
	}
}

func TestReadmeNamesEveryField(t *testing.T) {
	for _, f := range fields {
		if row := fmt.Sprintf("\n| `%s` | %s |\n", f.name, f.help); !strings.Contains(readme, row) {
			t.Errorf("README.md lacks the row %s", row)
		}
	}
}

// Each reason has its two letters, at each stage that a session can have come to, and the
// README names them.
func TestCloseCodes(t *testing.T) {
	early := func(r *journal.Record) { r.Tries, r.Dialed, r.Connected = 0, 0, 0 }
	dialing := func(r *journal.Record) { r.Connected = 0 }
	queued := func(r *journal.Record) { early(r); r.Flags = journal.Queued }
	for _, c := range []struct {
		reason metrics.Reason
		stage  func(*journal.Record)
		want   string
	}{
		{metrics.ReasonClientEOF, nil, "--"},
		{metrics.ReasonBackendEOF, nil, "--"},
		{metrics.ReasonClientReset, nil, "CD"},
		{metrics.ReasonClientReset, dialing, "CC"},
		{metrics.ReasonClientReset, queued, "CQ"},
		{metrics.ReasonBackendReset, nil, "SD"},
		{metrics.ReasonConnectFailed, dialing, "SC"},
		{metrics.ReasonConnectTimeout, dialing, "sC"},
		{metrics.ReasonNoBackend, early, "SC"},
		{metrics.ReasonNoBackend, queued, "sQ"},
		{metrics.ReasonIdleTimeout, nil, "cD"},
		{metrics.ReasonHalfClosed, nil, "sD"},
		{metrics.ReasonMaxDuration, nil, "PD"},
		{metrics.ReasonMaxDuration, dialing, "PC"},
		{metrics.ReasonFirstByte, nil, "cR"},
		{metrics.ReasonDrainDeadline, nil, "KD"},
		{metrics.ReasonDrainDeadline, dialing, "KC"},
		{metrics.ReasonDrainDeadline, queued, "KQ"},
		{metrics.ReasonWorkerDied, func(r *journal.Record) { early(r); r.Flags = journal.Partial }, "ID"},
		{metrics.ReasonInternal, nil, "ID"},
		{metrics.ReasonInternal, early, "IC"},
		{metrics.ReasonLoop, nil, "PC"},
		{metrics.ReasonLoop, early, "PC"},
		{metrics.ReasonProxyMissing, early, "PR"},
		{metrics.ReasonProxyMalformed, early, "PR"},
		{metrics.ReasonProxyUntrusted, early, "PR"},
		{metrics.ReasonHelloMalformed, early, "PR"},
		{metrics.ReasonPreambleTimeout, early, "cR"},
		{metrics.ReasonDenied, early, "PR"},
		{metrics.ReasonSourceSessions, early, "PR"},
		{metrics.ReasonSourceRate, early, "PR"},
		{metrics.ReasonRate, early, "PR"},
		{metrics.ReasonStartTLSRefused, nil, "SC"},
		{metrics.ReasonStartTLSTimeout, nil, "sC"},
		{metrics.ReasonBackendDown, nil, "DD"},
		{metrics.ReasonKilled, nil, "KD"},
		{metrics.ReasonKilled, early, "KC"},
		{metrics.ReasonKilled, queued, "KQ"},
		{metrics.ReasonBackendLeft, early, "SC"},
		{metrics.ReasonBackendLeft, nil, "SD"},
		{metrics.ReasonRebalanced, nil, "KD"},
	} {
		r := closed(func(r *journal.Record) {
			r.Reason = c.reason
			if c.stage != nil {
				c.stage(r)
			}
		})
		got := code(&r)
		if string(got[:]) != c.want {
			t.Errorf("%v: %s, want %s", c.reason, got, c.want)
		}
		_, rest, _ := strings.Cut(readme, "\n| reason | letters |\n")
		_, row, found := strings.Cut(rest, "\n| `"+c.reason.String()+"` | ")
		row, _, _ = strings.Cut(row, "\n")
		if !found || !strings.Contains(row, "`"+c.want+"`") {
			t.Errorf("README.md does not say that %v may be %s: %q", c.reason, c.want, row)
		}
	}
	for reason := range metrics.NumReasons {
		if letters[reason] == 0 {
			t.Errorf("%v has no letter", reason)
		}
	}
}

func TestWants(t *testing.T) {
	of := func(change func(*journal.Record)) *journal.Record { r := closed(change); return &r }
	all, errors := rules{Options: Options{Access: All}, below: ^uint64(0)}, rules{Options: Options{Access: Errors}, below: ^uint64(0)}
	noProbes := all
	noProbes.SkipEmpty = true
	start := all
	start.Start = true
	for _, c := range []struct {
		name   string
		r      *journal.Record
		all    bool
		errors bool
		probes bool // with SkipEmpty
		start  bool
	}{
		{"well", of(nil), true, false, true, true},
		{"retried", of(func(r *journal.Record) { r.Tries = 2 }), true, true, true, true},
		{"reset", of(func(r *journal.Record) { r.Reason = metrics.ReasonClientReset }), true, true, true, true},
		{"max duration", of(func(r *journal.Record) { r.Reason = metrics.ReasonMaxDuration }), true, false, true, true},
		{"idle", of(func(r *journal.Record) { r.Reason = metrics.ReasonIdleTimeout }), true, true, true, true},
		{"rejected", of(func(r *journal.Record) { r.Kind = journal.KindRejected }), true, true, true, true},
		{"probe", of(func(r *journal.Record) { r.Received, r.Sent = 0, 0 }), true, false, false, true},
		{"probe that resets", of(func(r *journal.Record) { r.Received, r.Sent, r.Reason = 0, 0, metrics.ReasonClientReset }), true, true, false, true},
		{"no backend", of(func(r *journal.Record) { r.Received, r.Sent, r.Reason = 0, 0, metrics.ReasonNoBackend }), true, true, true, true},
		{"not known", of(func(r *journal.Record) { r.Received, r.Sent, r.Flags = 0, 0, journal.Partial }), true, false, true, true},
		{"connected", of(func(r *journal.Record) { r.Kind = journal.KindConnected }), false, false, false, true},
		{"a step", of(func(r *journal.Record) { r.Kind = journal.KindDialed }), false, false, false, false},
	} {
		got := [4]bool{all.wants(c.r), errors.wants(c.r), noProbes.wants(c.r), start.wants(c.r)}
		if want := [4]bool{c.all, c.errors, c.probes, c.start}; got != want {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

// A share is a share of sessions: both lines of one, or none.
func TestSample(t *testing.T) {
	l := &Log{current: &rules{}}
	for share, want := range map[float64][2]int{0: {0, 0}, 0.25: {2300, 2700}, 1: {10000, 10000}} {
		p, err := l.Prepare(Options{Access: All, To: Stdout, Format: JSON, Sample: share, Start: true})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range 10000 {
			r := closed(func(r *journal.Record) { r.Session = journal.NewID(1, int32(i), 7) })
			begun := r
			begun.Kind = journal.KindConnected
			if p.rules.wants(&r) {
				n++
			}
			if p.rules.wants(&r) != p.rules.wants(&begun) {
				t.Fatal("one line of a session without the other")
			}
		}
		if n < want[0] || n > want[1] {
			t.Errorf("%v: %d of 10000", share, n)
		}
		p.Discard()
	}
}

func TestNames(t *testing.T) {
	var n Names
	for life := range uint64(4) {
		n.PutTarget(metrics.NewID(5, life), Target{Backend: fmt.Sprint(life)})
	}
	for life, want := range []string{"", "", "2", "3"} {
		got, ok := n.targets.get(metrics.NewID(5, uint64(life)), false)
		if got.Backend != want || ok != (want != "") {
			t.Errorf("life %d: %q", life, got.Backend)
		}
	}
	if got, _ := n.targets.get(metrics.NewID(5, 0), true); got.Backend != "3" {
		t.Errorf("by index: %q", got.Backend)
	}
	if _, ok := n.targets.get(metrics.NewID(9, 0), true); ok || n.HasTarget(metrics.NewID(4, 0)) || !n.HasTarget(metrics.NewID(5, 3)) {
		t.Error("knows what it was not told")
	}
}

func TestCheckPlace(t *testing.T) {
	for text, ok := range map[string]bool{
		"stdout": true, "/a": true, "syslog:udp:127.0.0.1:514": true, "syslog:tcp:[::1]:601": true, "syslog:unix:/dev/log": true,
		"": false, "a.log": false, "syslog": false, "syslog:": false, "syslog:udp": false, "syslog:udp:514": false, "syslog:unix:log": false,
		"syslog:udp::514": false, "syslog:sctp:a:1": false, "syslog:tcp:a:0": false, "syslog:tcp:a:http": false, "stderr": false,
	} {
		if err := CheckPlace(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	for _, text := range []string{JSON, Text, "{time} {client} {backend} {bytes_in} {bytes_out} {reason}"} {
		b.Run(text[:4], func(b *testing.B) {
			f, e := mustParse(b, text), entries()[0]
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = f.append(buf[:0], e)
			}
		})
	}
}
