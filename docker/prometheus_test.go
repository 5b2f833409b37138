package docker

import (
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
