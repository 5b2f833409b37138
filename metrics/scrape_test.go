package metrics

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape renders a snapshot as /metrics does.
func scrape(t *testing.T, s Snapshot) []byte {
	t.Helper()
	var text bytes.Buffer
	check(t, Scrape(&text, s))
	return text.Bytes()
}

// What Prometheus' own library reads is what it would have written.
func TestTextFormat(t *testing.T) {
	s := fixture(t)
	s.Service.Config.Path = "a \\ \"b\"\nc"
	text := scrape(t, s)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	check(t, err)
	sorted := func(text []byte) []string {
		lines := strings.Split(string(text), "\n")
		for i, line := range lines { // large numbers are written otherwise, and the word is last here
			if series, value, ok := strings.Cut(line, "} "); ok && !strings.HasPrefix(line, "#") {
				labels := strings.Split(series, ",")
				slices.Sort(labels[1:])
				v, err := strconv.ParseFloat(value, 64)
				check(t, err)
				lines[i] = fmt.Sprint(labels, v)
			}
		}
		slices.Sort(lines)
		return lines
	}
	var theirs bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&theirs, f)
		check(t, err)
	}
	ours, want := sorted(text), sorted(theirs.Bytes())
	for i := range min(len(ours), len(want)) {
		if ours[i] != want[i] && !strings.Contains(ours[i], "e+") && !strings.Contains(want[i], "e+") {
			t.Fatalf("%s\n%s", ours[i], want[i])
		}
	}
	if len(ours) != len(want) {
		t.Errorf("%d lines, want %d", len(ours), len(want))
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", -3: "-3", 1e6: "1000000", 1 << 53: "9007199254740992", 1e300: "1e+300",
		.25: "0.25", 2.5e-7: "2.5e-07", math.Inf(1): "+Inf", math.Inf(-1): "-Inf",
	} {
		if got := string(appendNumber(nil, v)); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
	if got := string(appendNumber(nil, math.NaN())); got != "NaN" {
		t.Error(got)
	}
}

func TestMetrics(t *testing.T) {
	golden(t, "metrics.txt", scrape(t, fixture(t)))
}

func TestEveryFamilyIsShown(t *testing.T) {
	text := scrape(t, fixture(t))
	for _, f := range catalog {
		if !bytes.Contains(text, []byte("# TYPE "+f.name+" ")) {
			t.Errorf("%s is described and never sent", f.name)
		}
	}
}

// TestSeriesFromTheStart compares the series of a service without traffic with
// those of one with: rate() misses the first event of a series that comes late.
func TestSeriesFromTheStart(t *testing.T) {
	start := series(scrape(t, TakeSnapshot(newBoard(t), &Window{}, fixtureTopology(), fixtureTime)))
	later := series(scrape(t, fixture(t)))
	// The exceptions: no data is no balance; the CPU label is written by the acceptor.
	mayDiffer := func(s string) bool {
		return strings.HasPrefix(s, "sluice_listener_accept_chi_square_ratio") || strings.HasPrefix(s, "sluice_acceptor_info")
	}
	for _, s := range slices.Sorted(maps.Keys(later)) {
		if !start[s] && !mayDiffer(s) {
			t.Errorf("%s is missing at the start", s)
		}
	}
	if len(start) < 200 {
		t.Errorf("only %d series at the start", len(start))
	}
}

// series are the lines of a scrape without their values.
func series(text []byte) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			set[line[:strings.LastIndexByte(line, ' ')]] = true
		}
	}
	return set
}

func TestMetricsLint(t *testing.T) {
	s := fixture(t)
	problems, err := promlint.New(bytes.NewReader(scrape(t, s))).Lint()
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed (Debian: prometheus)")
		}
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(scrape(t, fixture(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// A path need not be text; a scrape must not fail for it.
func TestLabelsAreText(t *testing.T) {
	top := fixtureTopology()
	top.Config.Path = "bad\xff.toml"
	text := scrape(t, TakeSnapshot(newBoard(t), &Window{}, top, fixtureTime))
	if !bytes.Contains(text, []byte(`path="bad?.toml"`)) {
		t.Error("no config_info with the bad byte replaced")
	}
}

// Compact has no histogram of a backend and no word that counts 0, and all else.
func TestCompact(t *testing.T) {
	s := fixture(t)
	full := series(scrape(t, s))
	s.Metrics = Compact
	text := scrape(t, s)
	compact := series(text)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "reason=\"") && strings.HasSuffix(line, "} 0\n") {
			t.Errorf("shown though it is 0: %s", line)
		}
	}
	worded := regexp.MustCompile(`[{,](reason|result|path)="`)
	for one := range full {
		switch perBackend := strings.HasPrefix(one, "sluice_backend_connect_duration_seconds"); {
		case perBackend && compact[one]:
			t.Errorf("%s is shown", one)
		case !perBackend && !compact[one] && !worded.MatchString(one):
			t.Errorf("%s is not shown", one)
		}
	}
	for one := range compact {
		if !full[one] {
			t.Errorf("%s is in no full scrape", one)
		}
	}
	if !compact[`sluice_listener_closed_connections_total{listener="web",reason="client_eof"}`] {
		t.Error("a reason that counts is not shown")
	}
}

// The memory that a scrape takes: what grows with the backends is little for each, whatever
// has happened there. A registry took 20 allocations for each series.
func TestScrapeAllocations(t *testing.T) {
	const backends = 1000
	board, top := withBackends(t, backends)
	n := testing.AllocsPerRun(3, func() { check(t, Scrape(io.Discard, TakeSnapshot(board, &Window{}, top, fixtureTime))) })
	if n > 2*backends {
		t.Errorf("%.0f allocations for %d backends", n, backends)
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, backends := range []int{10, 10_000} {
		b.Run(strconv.Itoa(backends), func(b *testing.B) {
			board, top := withBackends(b, backends)
			for b.Loop() {
				check(b, Scrape(io.Discard, TakeSnapshot(board, &Window{}, top, fixtureTime)))
			}
		})
	}
}

// withBackends is a service whose first pool has that many, each of which did something.
func withBackends(tb testing.TB, backends int) (*Board, Topology) {
	board, top := newBoard(tb), fixtureTopology()
	top.Pools[0].Backends = nil
	for i := range backends {
		id := NewID(uint32(100+i), 1)
		board.OpenTarget(id)
		board.Target(0, id).Sessions.Add(1)
		name := "10.0.0.1:" + strconv.Itoa(i)
		top.Health[id] = Health{State: TargetUp}
		top.Pools[0].Backends = append(top.Pools[0].Backends, Backend{Name: name, Weight: 1, Targets: []Target{{ID: id, Address: name}}})
	}
	return board, top
}
