package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/metrics"
)

// figures takes snapshots and what is rendered of them, each for all who ask at the
// same time.
//
//	/readyz ──────────────────────────────────┐
//	/status.json ─► shelf of JSON ────────────┼─► snapshots ─► Options.Snapshot
//	/metrics ─────► shelf of metric families ─┘
//
// With 10,000 backends the families are some 80 MB and the JSON 30 MB; twenty scrapers
// must not have twenty of them.
type figures struct {
	snapshots *flight[metrics.Snapshot]
	families  *shelf[prometheus.Gatherer]
	status    *shelf[[]byte]
	opts      promhttp.HandlerOpts
}

func newFigures(snapshot func() metrics.Snapshot, log *slog.Logger) *figures {
	f := &figures{opts: promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	f.snapshots = newFlight(func() (metrics.Snapshot, error) { return snapshot(), nil })
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.NewCollector(func() metrics.Snapshot {
			s, _ := f.snapshots.get(context.Background()) // fails only after close, and then families.get does
			return s
		}),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	f.families = newShelf(func() (prometheus.Gatherer, error) {
		return prometheus.GathererFunc(gathered(registry.Gather())), nil
	})
	f.status = newShelf(func() ([]byte, error) {
		s, err := f.snapshots.get(context.Background())
		if err != nil {
			return nil, err
		}
		b, err := json.MarshalIndent(s, "", "  ")
		return append(b, '\n'), err
	})
	return f
}

// gathered gives a result of Gather to whoever asks. A handler may drop families from
// its slice, not touch them.
func gathered[S ~[]E, E any](families S, err error) func() (S, error) {
	return func() (S, error) { return slices.Clone(families), err }
}

func (f *figures) serveMetrics(w http.ResponseWriter, r *http.Request) {
	families, release, err := f.families.get(r.Context(), w)
	if err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer release()
	promhttp.HandlerFor(families, f.opts).ServeHTTP(w, r)
}

func (f *figures) serveStatus(w http.ResponseWriter, r *http.Request) {
	text, release, err := f.status.get(r.Context(), w)
	if err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer release()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // fails only when the reader has gone
}

// close waits for what is being taken; nothing is taken after it.
func (f *figures) close() {
	f.families.flight.close()
	f.status.flight.close()
	f.snapshots.close()
}
