package main

import (
	"strings"
	"testing"
	"time"
)

// sample is a result of three rounds with known figures. slower makes sluice's CPU and latency that many times larger.
func sample(slower float64) *result {
	r := &result{
		Date:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine:   machine{CPU: "Some CPU", Cores: 2, Kernel: "Linux 6.18", TCP: "reno"},
		Acceptors: 2,
		Rounds:    3,
		Proxies: []proxyInfo{
			{Name: direct, About: "no proxy"}, {Name: "sluice", About: "this repository", Version: "1.0"},
			{Name: "sluice-process", About: "processes", Version: "1.0"},
			{Name: "haproxy", About: "HAProxy", Version: "2.6", Peer: true}, {Name: "nginx", About: "nginx stream", Version: "1.22", Peer: true},
		},
		Cases: []caseInfo{
			{Name: "kept-32-64B", About: "kept", Family: requestFamily}, {Name: "bulk-1-down", About: "down", Family: bulkFamily},
			{Name: "idle-4000", About: "idle", Family: memoryFamily}, {Name: "balance-16", About: "balance", Family: balanceFamily, Chance: chance(16, 4, 5)},
			{Name: "idle-cpu-64a", About: "rest", Family: restFamily}, {Name: "low-rate", About: "low", Family: paceFamily},
			{Name: "accepts-beside-streams", About: "beside", Family: fairFamily},
		},
		LeftOut: []leftOut{{Case: "balance-16", Proxy: "go", Why: "it has no acceptors"}},
		Runs:    []run{{Case: "bulk-1-down", Proxy: "nginx", Round: 3, Failed: "run: no answer in time"}},
	}
	add := func(name, proxy string, round int, f figures) {
		r.Runs = append(r.Runs, run{Case: name, Proxy: proxy, Round: round, Figures: f})
	}
	for round := 1; round <= 3; round++ {
		n := float64(round)
		add("kept-32-64B", direct, round, figures{"ends": 8e-6, "rate": 150000 + n, "p50": 90e-6, "p99": 300e-6})
		add("kept-32-64B", "sluice", round, figures{"cpu": slower * (9 + 0.1*n) * 1e-6, "ends": 9e-6, "rate": 70000 + n, "p50": 390e-6, "p99": slower * 960e-6})
		add("kept-32-64B", "haproxy", round, figures{"cpu": 13e-6, "ends": 9e-6, "rate": 66000 - n, "p50": 420e-6, "p99": 1360e-6})
		add("kept-32-64B", "nginx", round, figures{"cpu": 12e-6, "ends": 9e-6, "rate": 67000, "p50": 418e-6, "p99": 1170e-6})
		add("bulk-1-down", "sluice", round, figures{"cpu": slower * 0.28, "ends": 0.5, "rate": 1.99})
		add("bulk-1-down", "haproxy", round, figures{"cpu": 0.55, "ends": 0.5, "rate": 1.5})
		add("idle-4000", "sluice", round, figures{"opened": 164, "used": 300})
		add("idle-4000", "haproxy", round, figures{"opened": 3377, "used": 3400})
		add("idle-cpu-64a", "sluice", round, figures{"share": 0.0028})
		add("idle-cpu-64a", "sluice-process", round, figures{"share": 0.0031})
		add("idle-cpu-64a", "nginx", round, figures{"share": 0})
		add("low-rate", "sluice", round, figures{"cpu": 700e-6, "share": 0.014, "ends": 800e-6, "p50": 700e-6, "p99": 1e-3})
		add("low-rate", "sluice-process", round, figures{"cpu": 800e-6, "share": 0.016, "ends": 800e-6, "p50": 700e-6, "p99": 1e-3})
		add("low-rate", "haproxy", round, figures{"cpu": 450e-6, "share": 0.009, "ends": 800e-6, "p50": 700e-6, "p99": 1e-3})
		add("low-rate", "nginx", round, figures{"cpu": 500e-6, "share": 0.01, "ends": 800e-6, "p50": 700e-6, "p99": 1e-3})
		add("accepts-beside-streams", "sluice", round, figures{"failed": 0.01 * (n - 1), "p50": 7e-3, "p99": 2e-2, "max": 0.03, "streams": 0.9})
		add("accepts-beside-streams", "haproxy", round, figures{"failed": 0, "p50": 14e-3, "p99": 4e-2, "max": 0.05, "streams": 0.6})
		add("accepts-beside-streams", "nginx", round, figures{"failed": 0.95, "p50": 4, "p99": 4, "max": 4, "streams": 0.7})
		add("balance-16", "sluice", round, figures{"jain": 1, "jain_worst": 1, "peak": 1, "peak_worst": 1})
	}
	return r
}

func TestReport(t *testing.T) {
	var text, markdown strings.Builder
	writeText(&text, sample(1))
	golden(t, "report.txt", text.String())
	writeMarkdown(&markdown, sample(1))
	golden(t, "report.md", markdown.String())
}

func TestBars(t *testing.T) {
	var out strings.Builder
	writeBars(&out, sample(1))
	golden(t, "bars.txt", out.String())
}

func TestCompare(t *testing.T) {
	var out strings.Builder
	writeDifferences(&out, sample(1), sample(1.2))
	golden(t, "compare.txt", out.String())
}

// Only a median that moved far while the ranges stay apart is outside the noise.
func TestVerdicts(t *testing.T) {
	col := column{better: less}
	for _, c := range []struct {
		name          string
		before, after series
		want          string
	}{
		{"the same", series{10, 9, 11, 7}, series{10, 9, 11, 7}, ""},
		{"far, but the ranges overlap", series{10, 9, 13, 7}, series{12, 11, 14, 7}, ""},
		{"apart, but not far", series{10, 9.9, 10.1, 7}, series{10.4, 10.3, 10.5, 7}, ""},
		{"far and apart", series{10, 9, 11, 7}, series{12, 11.5, 13, 7}, "WORSE"},
		{"far and apart, downwards", series{10, 9, 11, 7}, series{8, 7, 8.5, 7}, "better"},
		{"too few rounds", series{10, 10, 10, 2}, series{20, 20, 20, 7}, ""},
	} {
		if got := newDifference("c", "p", col, c.before, c.after).Verdict; got != c.want {
			t.Errorf("%s: verdict %q, want %q", c.name, got, c.want)
		}
	}
	if got := newDifference("c", "p", column{better: more}, series{10, 9, 11, 7}, series{8, 7, 8.5, 7}).Verdict; got != "WORSE" {
		t.Errorf("less where more is better: verdict %q", got)
	}
}
