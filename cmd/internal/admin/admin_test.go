package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"sluice/metrics"
)

// serve answers one request from a given snapshot.
func serve(s metrics.Snapshot, method, path string) *http.Response {
	w := httptest.NewRecorder()
	New(Options{Snapshot: func() metrics.Snapshot { return s }, Log: slog.New(slog.DiscardHandler)}).tcp.Handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func workers(states ...metrics.WorkerState) (ws []metrics.Worker) {
	for i, s := range states {
		ws = append(ws, metrics.Worker{Number: i, State: s})
	}
	return ws
}

func TestReadyz(t *testing.T) {
	const run, dead, starting, drain = metrics.WorkerRunning, metrics.WorkerDead, metrics.WorkerStarting, metrics.WorkerDraining
	for _, row := range []struct {
		name            string
		ready, draining bool
		workers         []metrics.Worker
		code            int
		text            string
	}{
		{"starting", false, false, workers(starting, starting), 503, "starting"},
		{"all up", true, false, workers(run, run), 200, "ready"},
		{"one dead", true, false, workers(run, dead, run, run), 200, "ready, 3 of 4 workers up"},
		{"one starts again", true, false, workers(run, starting), 200, "ready, 1 of 2 workers up"},
		{"none up", true, false, workers(dead, starting), 503, "0 of 2 workers up"},
		{"draining", true, true, workers(drain, drain), 503, "draining"},
		{"draining, no longer ready", false, true, workers(run), 503, "draining"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := serve(metrics.Snapshot{Service: metrics.Service{Ready: row.ready, Draining: row.draining}, Workers: row.workers}, "GET", "/readyz")
			if got := body(t, r); r.StatusCode != row.code || got != row.text+"\n" {
				t.Errorf("%d %q, want %d %q", r.StatusCode, got, row.code, row.text)
			}
		})
	}
}

func TestStatusTellsTheSnapshot(t *testing.T) {
	want := metrics.Snapshot{
		Service:   metrics.Service{Name: "edge-1", Mode: "process", Ready: true},
		Listeners: []metrics.ListenerStats{}, Pools: []metrics.PoolStats{}, Acceptors: []metrics.AcceptorStats{},
		Workers: workers(metrics.WorkerRunning, metrics.WorkerDead),
	}
	r := serve(want, "GET", "/status.json")
	var got metrics.Snapshot
	if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
}

func TestMetricsTellTheSnapshot(t *testing.T) {
	r := serve(metrics.Snapshot{Workers: workers(metrics.WorkerRunning, metrics.WorkerDead, metrics.WorkerDead)}, "GET", "/metrics")
	page := body(t, r)
	for _, line := range []string{`sluice_workers{state="dead"} 2`, `sluice_workers{state="running"} 1`} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("missing %s", line)
		}
	}
}

func TestRoutes(t *testing.T) {
	for _, row := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/livez", 200}, // also when nothing is ready
		{"HEAD", "/livez", 200},
		{"GET", "/", 200},
		{"GET", "/nothing", 404},
		{"GET", "/livez/more", 404},
		{"POST", "/livez", 405},
		{"PUT", "/readyz", 405},
		{"DELETE", "/status.json", 405},
		{"POST", "/metrics", 405},
		{"POST", "/", 405},
		{"POST", "/reload", 404}, // a verb: not over TCP
	} {
		if r := serve(metrics.Snapshot{}, row.method, row.path); r.StatusCode != row.code {
			t.Errorf("%s %s: %d, want %d", row.method, row.path, r.StatusCode, row.code)
		}
	}
}

// The list at / is what there is. TestEvents asks for what has no end.
func TestIndexNamesEveryPage(t *testing.T) {
	for path := range strings.FieldsSeq(body(t, serve(metrics.Snapshot{}, "GET", "/"))) {
		if strings.HasPrefix(path, "/") && path != "/events" && serve(metrics.Snapshot{}, "GET", path).StatusCode == http.StatusNotFound {
			t.Errorf("%s is listed and not found", path)
		}
	}
}
