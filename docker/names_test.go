package docker

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vocabulary is what rules, alerts, dashboards and pages may name:
//
//	../metrics/testdata/metrics.txt ─► series, their labels, the words of labels with a closed set of them
//	rules.yml                       ─► what is recorded
//	../config.example.toml          ─► keys
type vocabulary struct {
	values map[string]map[string]map[string]bool // by series and label
	keys   map[string]bool
	alerts map[string]bool
}

// closedSets are labels whose words are known beforehand: the golden /metrics has each.
var closedSets = []string{"reason", "path", "result", "state"}

// Labels that Prometheus adds.
var scraped = []string{"job", "instance"}

func knownNames(t *testing.T) vocabulary {
	t.Helper()
	v := vocabulary{
		values: map[string]map[string]map[string]bool{"ALERTS": {}},
		keys:   matches(`([a-z0-9]+(?:_[a-z0-9]+)+)`, read(t, "../config.example.toml")),
		alerts: matches(`- alert: (\w+)`, read(t, "prometheus/alerts.yml")),
	}
	for line := range strings.Lines(read(t, "../metrics/testdata/metrics.txt")) {
		if name := word.FindString(line); strings.HasPrefix(name, "sluice_") && !strings.HasPrefix(line, "#") {
			v.add(name, matchers.FindAllStringSubmatch(line, -1))
		}
	}
	for name := range matches(`record: (\S+)`, read(t, "prometheus/rules.yml")) {
		level, _, _ := strings.Cut(name, ":") // is its labels
		v.values[name] = map[string]map[string]bool{}
		for _, label := range strings.Split(level, "_") {
			v.values[name][label] = nil
		}
	}
	return v
}

func (v vocabulary) add(name string, labels [][]string) {
	if v.values[name] == nil {
		v.values[name] = map[string]map[string]bool{}
	}
	for _, m := range labels {
		label, value := m[1], m[3]
		if v.values[name][label] == nil {
			v.values[name][label] = map[string]bool{}
		}
		v.values[name][label][value] = true
	}
}

// hasLabel says whether any series has a label.
func (v vocabulary) hasLabel(label string) bool {
	for _, labels := range v.values {
		if _, has := labels[label]; has {
			return true
		}
	}
	return slices.Contains(scraped, label)
}

// hasWord says whether any series has a word as the value of a closed label.
func (v vocabulary) hasWord(word string) bool {
	for _, labels := range v.values {
		for _, label := range closedSets {
			if labels[label][word] {
				return true
			}
		}
	}
	return false
}

var (
	word     = regexp.MustCompile(`[a-zA-Z_:][\w:]*`)
	matchers = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	// grouped is an aggregation with its labels, up to the series that it is made of.
	grouped = regexp.MustCompile(`\b(?:sum|max|min|avg|count|stddev) by \(([^)]*)\) \([^{}]*?\b(\w*:?sluice_[\w:]+)`)
	joined  = regexp.MustCompile(`\b(?:by|on|ignoring|group_left|group_right) \(([^)]*)\)`)
	// shownLabel is a label in the text of an alert or the legend of a graph.
	shownLabel = regexp.MustCompile(`\$labels\.(\w+)|\{\{(\w+)\}\}`)
)

// faults are the names in a text that do not exist.
func (v vocabulary) faults(text string) (faults []string) {
	fault := func(parts ...string) { faults = append(faults, strings.Join(parts, " ")) }
	for _, w := range word.FindAllString(text, -1) {
		if ours := strings.HasPrefix(w, "sluice_") || strings.Contains(w, ":sluice_"); ours && v.values[w] == nil {
			fault("no series", w)
		}
		if strings.HasPrefix(w, "Sluice") && !v.alerts[w] && w != "Sluice" {
			fault("no alert", w)
		}
	}
	for _, s := range selector.FindAllStringSubmatch(text, -1) { // ALERTS has the labels of each alert
		labels := v.values[s[1]]
		if labels == nil {
			continue // another program's, or reported above
		}
		for _, m := range matchers.FindAllStringSubmatch(s[2], -1) {
			label, operator, value := m[1], m[2], m[3]
			if _, has := labels[label]; !has && !slices.Contains(scraped, label) && s[1] != "ALERTS" {
				fault("no label", label, "of", s[1])
			}
			if !slices.Contains(closedSets, label) || strings.HasPrefix(value, "$") || s[1] == "sluice_listener_steering_info" && value == "" {
				continue
			}
			words := []string{value}
			if strings.HasSuffix(operator, "~") {
				words = strings.Split(value, "|")
			}
			for _, w := range words {
				if !labels[label][w] {
					fault("no", label, w, "of", s[1])
				}
			}
		}
	}
	for _, g := range grouped.FindAllStringSubmatch(text, -1) {
		for _, label := range strings.Split(g[1], ", ") {
			if _, has := v.values[g[2]][label]; !has && !slices.Contains(scraped, label) {
				fault("no label", label, "of", g[2], "to sum by")
			}
		}
	}
	for _, j := range joined.FindAllStringSubmatch(text, -1) {
		for _, label := range strings.Split(j[1], ", ") {
			if label != "" && !v.hasLabel(label) {
				fault("no label", label)
			}
		}
	}
	for _, m := range shownLabel.FindAllStringSubmatch(text, -1) {
		if label := m[1] + m[2]; !v.hasLabel(label) {
			fault("no label", label)
		}
	}
	return faults
}

var (
	// explained is a word that a sentence begins with to say what it means.
	explained = regexp.MustCompile(`(?:^|[.'] |, )([a-z_]+): `)
	compound  = regexp.MustCompile(`\b[a-z0-9]+(?:_[a-z0-9]+)+\b`)
)

// proseFaults are the words in the text of a runbook that are no label's, no key and no
// series.
func (v vocabulary) proseFaults(text string) (faults []string) {
	for _, m := range explained.FindAllStringSubmatch(text, -1) {
		if !v.hasWord(m[1]) {
			faults = append(faults, "no reason "+m[1])
		}
	}
	for _, w := range compound.FindAllString(text, -1) {
		if v.values[w] == nil && !v.keys[w] && !v.hasWord(w) && !v.hasLabel(w) {
			faults = append(faults, "no word "+w)
		}
	}
	return faults
}

// TestAllNamesExist holds what is named in rules, alerts, runbooks and their tests, in the
// dashboards and in the READMEs against what sluice has.
func TestAllNamesExist(t *testing.T) {
	v := knownNames(t)
	files, err := filepath.Glob("prometheus/*.yml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	readmes, err := filepath.Glob("../*/README.md")
	if err != nil || len(readmes) == 0 {
		t.Fatalf("%v, %v", readmes, err)
	}
	readmes = append(readmes, "../README.md")
	for _, file := range append(files, readmes...) {
		families := regexp.MustCompile(`\bsluice_\w+`) // of a page; it has them whole, a histogram without its endings
		for line := range strings.Lines(read(t, file)) {
			line = strings.ReplaceAll(line, `\"`, `"`)
			switch {
			case strings.Contains(line, "- name:"): // of a group or a test
			case strings.HasSuffix(file, ".md"):
				for _, name := range families.FindAllString(line, -1) {
					if v.values[name] == nil && v.values[name+"_count"] == nil {
						t.Errorf("%s: no series %s", file, name)
					}
				}
				for _, alert := range regexp.MustCompile("`(Sluice\\w+)`").FindAllStringSubmatch(line, -1) {
					if !v.alerts[alert[1]] {
						t.Errorf("%s: no alert %s", file, alert[1])
					}
				}
			default:
				for _, f := range v.faults(line) {
					t.Errorf("%s: %s: %s", file, f, strings.TrimSpace(line))
				}
			}
			if _, runbook, found := strings.Cut(line, "runbook: '"); found {
				for _, f := range v.proseFaults(runbook) {
					t.Errorf("%s: %s: %s", file, f, runbook)
				}
			}
		}
	}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				for _, f := range append(v.faults(q.Expr), v.faults(q.LegendFormat)...) {
					t.Errorf("%s: %s: %s: %s", d.file, p.Title, f, q.Expr)
				}
			}
		}
	}
}

// TestWrongNamesAreFound shows that the check above is one.
func TestWrongNamesAreFound(t *testing.T) {
	v := knownNames(t)
	for text, want := range map[string]string{
		`rate(sluice_accepted_total[5m])`:                                              "no series sluice_accepted_total",
		`instance:sluice_listener_held:sum`:                                            "no series instance:sluice_listener_held:sum",
		`sluice_listener_closed_connections_total{reason="resolve"}`:                   "no reason resolve of sluice_listener_closed_connections_total",
		`sluice_listener_closed_connections_total{reason=~"no_backend|resolve"}`:       "no reason resolve of sluice_listener_closed_connections_total",
		`sluice_acceptor_accept_errors_total{reason!="no_backend"}`:                    "no reason no_backend of sluice_acceptor_accept_errors_total",
		`sluice_ready{listener="web"}`:                                                 "no label listener of sluice_ready",
		`sum by (job, pool) (rate(sluice_listener_closed_connections_total{}[5m]))`:    "no label pool of sluice_listener_closed_connections_total to sum by",
		`a / on (job, host) b`:                                                         "no label host",
		`summary: 'on {{ $labels.host }}'`:                                             "no label host",
		`{{instance}} {{node}}`:                                                        "no label node",
		`see SluiceResolve`:                                                            "no alert SluiceResolve",
		`max by (instance, backend) (instance_listener:sluice_listener_held:sum > 0)`:  "no label backend of instance_listener:sluice_listener_held:sum to sum by",
		`sluice_listener_steering_info{requested!="auto",reason="bpf_not_permitted"}`:  "no reason bpf_not_permitted of sluice_listener_steering_info",
		`rate(sluice_listener_connection_duration_seconds_bucket{le="1",pool="p"}[1m]`: "no label pool of sluice_listener_connection_duration_seconds_bucket",
	} {
		if got := v.faults(text); !slices.Equal(got, []string{want}) {
			t.Errorf("%s:\n got %q\nwant %q", text, got, want)
		}
	}
	const prose = "refused: it is down. resolve: no name. Raise max_sessions or max_sesions; see sluice_ready."
	if got, want := v.proseFaults(prose), []string{"no reason resolve", "no word max_sesions"}; !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", prose, got, want)
	}
}
