package docker

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryPanelHasData runs every query of every dashboard against a Prometheus
// that has the shipped rules and scrapes a real sluice under light load.
func TestEveryPanelHasData(t *testing.T) {
	long(t)
	program := tool(t, "prometheus", "prometheus")
	admin := startSluice(t)
	prometheus := startPrometheus(t, program, "1s", admin)

	// A panel of rates needs two scrapes, one of ratios a rule that has seen them.
	pending := map[string]string{} // query to where it stands
	for _, d := range dashboards(t) {
		for _, p := range d.graphs() {
			for _, q := range p.Targets {
				pending[q.Expr] = d.file + ": " + p.Title
			}
		}
	}
	deadline := time.Now().Add(time.Minute)
	for len(pending) > 0 && time.Now().Before(deadline) {
		for expr := range pending {
			if prometheus.hasData(t, chooseAll.Replace(expr)) {
				delete(pending, expr)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	for expr, where := range pending {
		t.Errorf("%s: no data for %s", where, expr)
	}
	// An annotation is silent unless something changed, so it only has to be understood.
	for _, a := range dashboards(t)[0].Annotations.List {
		prometheus.hasData(t, chooseAll.Replace(a.Expr))
	}
}

// chooseAll puts in what Grafana does for variables that are all "All", at a
// scrape a second.
var chooseAll = strings.NewReplacer("$job", ".+", "$instance", ".+", "$listener", ".+", "$pool", ".+", "$__rate_interval", "4s")

// startTLS is a server with a certificate.
func startTLS(t *testing.T) (addr string) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// startSluice runs one with limits in front of two backends and a third that refuses, with
// clients that come and go and a few that stay, until the test ends. It returns its
// admin address.
func startSluice(t *testing.T) string {
	t.Helper()
	config, crowded := filepath.Join(t.TempDir(), "sluice.toml"), freeAddress(t)
	write(t, config, fmt.Sprintf(`
[acceptors]
count = 2
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[limits]
max_sessions = 1000
[listener.crowded]
bind = %q
pool = "crowded"
[listener.main]
bind = "127.0.0.1:0"
pool = "main"
max_sessions = 500
[listener.main.route.all]
source = ["127.0.0.0/8"]
pool = "main"
[pool.main]
backends = [%q, %q, %q]
[pool.crowded]
backends = [%q]
max_sessions = 1
queue = 10
[pool.checked]
backends = [%q]
[pool.checked.health]
check = "tls"
verify = false
`, crowded, freeAddress(t), startEcho(t), startEcho(t), startEcho(t), startTLS(t)))
	addr, admin := serve(t, build(t), "run", "-c", config)
	startLoad(t, addr)
	for range 3 { // one is served, the others wait for their turn
		stream(t, crowded, time.Millisecond)
	}
	return admin
}

// serve runs sluice until the test ends. It returns the addresses of its one listener
// and of its admin endpoint.
func serve(t *testing.T, program string, args ...string) (addr, admin string) {
	t.Helper()
	ready := make(chan string, 1)
	background(t, func(line string) {
		var entry struct{ Msg, Address, Admin string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			return
		}
		switch entry.Msg {
		case "listening":
			addr = entry.Address
		case "ready":
			ready <- entry.Admin
		}
	}, program, args...)
	select {
	case admin = <-ready:
		return addr, admin
	case <-time.After(20 * time.Second):
		t.Fatal("sluice does not start")
		return "", ""
	}
}

// api is the address of a Prometheus.
type api string

// patience is what rules wait: for the next evaluation, or before an alert fires.
var patience = regexp.MustCompile(`\b(interval|for): \d+[sm]`)

// startPrometheus scrapes targets with the shipped rules, evaluated once a second and
// with alerts that fire as soon.
func startPrometheus(t *testing.T, program, every string, targets ...string) api {
	t.Helper()
	dir := t.TempDir()
	for _, f := range []string{"rules.yml", "alerts.yml"} {
		write(t, filepath.Join(dir, f), patience.ReplaceAllString(read(t, filepath.Join("prometheus", f)), "$1: 1s"))
	}
	config := filepath.Join(dir, "prometheus.yml")
	shipped := read(t, "prometheus/prometheus.yml")
	write(t, config, strings.NewReplacer("5s", every, "15s", "1s", "sluice:9095", strings.Join(targets, `", "`)).Replace(shipped))
	listen := freeAddress(t)
	background(t, func(string) {}, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--log.level=warn")
	a := api("http://" + listen)
	eventually(t, 30*time.Second, "prometheus is ready", func() bool {
		r, err := http.Get(string(a) + "/-/ready")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return a
}

// hasData says whether a query returns something. NaN is no data.
func (a api) hasData(t *testing.T, expr string) bool {
	t.Helper()
	return slices.ContainsFunc(a.query(t, expr), func(s series) bool { return s.Value.text != "NaN" })
}

// series is one of an answer: a value, or those of a range.
type series struct {
	Value  sample
	Values []sample
}

// sample is written as [TIME, "VALUE"].
type sample struct {
	time float64
	text string
}

func (s *sample) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&s.time, &s.text}) }

// query runs one; it must be valid.
func (a api) query(t *testing.T, expr string) []series {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.PostForm(string(a)+"/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []series }
	}
	unmarshal(t, string(body), &answer)
	if answer.Status != "success" {
		t.Fatalf("%s: %s", expr, answer.Error)
	}
	return answer.Data.Result
}
