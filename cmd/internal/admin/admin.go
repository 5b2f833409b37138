// Package admin is the HTTP endpoint for people and machines.
//
//	GET /metrics      Prometheus                 ┐
//	GET /status.json  the same figures as JSON   ├ one metrics.Snapshot
//	GET /readyz       200 while it takes connections, else 503
//	GET /livez        200 while it answers at all
//	GET /             this list
//
// It only reads. It is served by the control plane, so a hung acceptor or a stopped
// worker does not keep it from answering.
package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/metrics"
)

// New makes the server. snapshot is called for each request, by any goroutine.
func New(snapshot func() metrics.Snapshot, log *slog.Logger) *http.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.NewCollector(snapshot),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(snapshot()) // fails only when the reader has gone
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		code, text := readiness(snapshot())
		say(w, code, text)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusOK, "sluice\n\n/metrics\n/status.json\n/readyz\n/livez")
	})
	return &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
	}
}

// readiness says whether to send connections here: one worker that runs is enough.
func readiness(s metrics.Snapshot) (code int, text string) {
	up := 0
	for _, w := range s.Workers {
		if w.State == metrics.WorkerRunning {
			up++
		}
	}
	workers := fmt.Sprintf("%d of %d workers up", up, len(s.Workers))
	switch {
	case s.Draining:
		return http.StatusServiceUnavailable, "draining"
	case !s.Ready:
		return http.StatusServiceUnavailable, "starting"
	case up == 0:
		return http.StatusServiceUnavailable, workers
	case up < len(s.Workers):
		return http.StatusOK, "ready, " + workers
	}
	return http.StatusOK, "ready"
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}
