package docker

import (
	"maps"
	"regexp"
	"strings"
	"testing"
)

func TestPromtoolLikesConfigAndRules(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	run(t, promtool, "check", "config", "--lint-fatal", "prometheus/prometheus.yml") // its rule files too
	run(t, promtool, "test", "rules", "prometheus/rules_test.yml")
	run(t, promtool, "test", "rules", "prometheus/alerts_test.yml")
}

// TestEveryAlertIsShownToFireAndToClear looks for both in alerts_test.yml; that
// they come true is promtool's part.
func TestEveryAlertIsShownToFireAndToClear(t *testing.T) {
	tests := read(t, "prometheus/alerts_test.yml")
	alerts := strings.Split(read(t, "prometheus/alerts.yml"), "- alert: ")[1:]
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	for _, alert := range alerts {
		name, body, _ := strings.Cut(alert, "\n")
		for _, key := range []string{"severity:", "summary:", "description:", "runbook:"} {
			if !strings.Contains(body, key) {
				t.Errorf("%s has no %s", name, strings.TrimSuffix(key, ":"))
			}
		}
		about := `count\(ALERTS\{alertname="` + name + `",alertstate="firing"\}\)', eval_time: \w+, exp_samples: `
		if !regexp.MustCompile(about + `\[\{value: 1\}\]`).MatchString(tests) {
			t.Errorf("%s is not shown to fire", name)
		}
		if !regexp.MustCompile(about + `\[\]`).MatchString(tests) {
			t.Errorf("%s is not shown to clear", name)
		}
	}
}

// TestRulesNameWhatExists holds all names of metrics in rules and alerts, the texts
// of runbooks included, against the golden /metrics.
func TestRulesNameWhatExists(t *testing.T) {
	known := knownNames(t)
	for _, file := range []string{"prometheus/rules.yml", "prometheus/alerts.yml"} {
		for line := range strings.Lines(read(t, file)) {
			if !strings.Contains(line, "- name:") { // of a group
				known.check(t, line)
			}
		}
	}
}

// names are those of series: what /metrics has, and what rules record.
type names map[string]bool

func knownNames(t *testing.T) names {
	t.Helper()
	known := matches(`(?m)^(sluice_\w+)`, read(t, "../metrics/testdata/metrics.txt"))
	maps.Copy(known, matches(`record: (\S+)`, read(t, "prometheus/rules.yml")))
	return known
}

var word = regexp.MustCompile(`[a-zA-Z_:][\w:]*`)

// check fails for a word that looks like a name of ours and is none.
func (known names) check(t *testing.T, text string) {
	t.Helper()
	for _, w := range word.FindAllString(text, -1) {
		if ours := strings.HasPrefix(w, "sluice_") || strings.Contains(w, ":sluice_"); ours && !known[w] {
			t.Errorf("there is no %s: %s", w, text)
		}
	}
}
