package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

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
// With 10,000 backends the families are some 30 MB and the JSON as much; twenty scrapers
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
		ErrorLog: scrapeLog{log},
	}}
	f.snapshots = newFlight(func() (metrics.Snapshot, error) { return snapshot(), nil })
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	ours := metrics.NewGatherer(func() metrics.Snapshot {
		s, _ := f.snapshots.get(context.Background()) // fails only after close, and then families.get does
		return s
	})
	f.families = newShelf(func() (prometheus.Gatherer, error) {
		families, err := registry.Gather()
		own, ownErr := ours.Gather()
		// prometheus.Gatherers would check and copy each series; no name is in both.
		return prometheus.GathererFunc(gathered(append(families, own...), errors.Join(err, ownErr))), nil
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

// scrapeLog is where promhttp tells of faults. One that goes away in the middle of its
// answer is life, and told of once for each family that it did not get: at debug level.
type scrapeLog struct{ *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	level := slog.LevelWarn
	for _, part := range v {
		if err, is := part.(error); is && errors.As(err, new(*net.OpError)) {
			level = slog.LevelDebug
		}
	}
	l.Log(context.Background(), level, strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
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
