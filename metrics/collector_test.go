package metrics

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

// scrape renders a snapshot as /metrics does.
func scrape(t *testing.T, s Snapshot) []byte {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	check(t, registry.Register(NewCollector(func() Snapshot { return s })))
	families, err := registry.Gather()
	check(t, err)
	var text bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&text, f)
		check(t, err)
	}
	return text.Bytes()
}

func TestMetrics(t *testing.T) {
	golden(t, "metrics.txt", scrape(t, fixture(t)))
}

func TestEveryFamilyIsShown(t *testing.T) {
	text := scrape(t, fixture(t))
	names := regexp.MustCompile(`fqName: "(\w+)"`)
	for _, d := range catalog {
		name := names.FindStringSubmatch(d.String())[1]
		if !bytes.Contains(text, []byte("# TYPE "+name+" ")) {
			t.Errorf("%s is described and never sent", name)
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
	problems, err := testutil.CollectAndLint(NewCollector(func() Snapshot { return s }))
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

func BenchmarkScrape(b *testing.B) {
	board := newBoard(b)
	top := fixtureTopology()
	collector := NewCollector(func() Snapshot { return TakeSnapshot(board, &Window{}, top, fixtureTime) })
	for b.Loop() {
		testutil.CollectAndCount(collector)
	}
}
