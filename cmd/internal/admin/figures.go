package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"sluice/metrics"
)

// figures takes snapshots and what is rendered of them, each for all who ask at the
// same time.
//
//	/readyz ──────────────────────────────────┐
//	/status.json ─► shelf of JSON ────────────┼─► snapshots ─► Options.Snapshot
//	/metrics ─────► shelf of text ────────────┘
//
// With 10,000 backends the text of /metrics is some 45 MB and the JSON as much; twenty
// scrapers must not have twenty of them.
type figures struct {
	snapshots *flight[metrics.Snapshot]
	metrics   *shelf[metrics.Text]
	status    *shelf[[]byte]
}

func newFigures(snapshot func() metrics.Snapshot, log *slog.Logger) *figures {
	f := &figures{}
	f.snapshots = newFlight(func() (metrics.Snapshot, error) { return snapshot(), nil })
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	f.metrics = newShelf(func() (metrics.Text, error) {
		s, err := f.snapshots.get(context.Background())
		if err != nil {
			return nil, err
		}
		return append(process(registry, log), metrics.Scrape(s)...), nil // by name: go, process, sluice
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

// process renders what client_golang tells of the process. What it cannot tell is left out.
func process(registry prometheus.Gatherer, log *slog.Logger) metrics.Text {
	families, err := registry.Gather()
	var text bytes.Buffer
	for _, family := range families {
		if _, wrong := expfmt.MetricFamilyToText(&text, family); wrong != nil {
			err = errors.Join(err, wrong)
		}
	}
	if err != nil {
		log.Warn("metrics of the process", "error", err)
	}
	return metrics.Text{text.Bytes()}
}

func (f *figures) serveMetrics(w http.ResponseWriter, r *http.Request) {
	text, release, err := f.metrics.get(r.Context(), w)
	if err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer release()
	w.Header().Set("Content-Type", metrics.TextType)
	w.Header().Set("Vary", "Accept-Encoding")
	if !takesGzip(r) {
		_, _ = text.WriteTo(w) // fails only when the reader has gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	packed := packers.Get().(*gzip.Writer)
	defer packers.Put(packed)
	packed.Reset(w)
	if _, err = text.WriteTo(packed); err == nil {
		_ = packed.Close()
	}
}

// packers are of a megabyte each.
var packers = sync.Pool{New: func() any {
	packed, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return packed
}}

// takesGzip says whether the client asks for gzip (RFC 9110, 12.5.3), as Prometheus does.
func takesGzip(r *http.Request) bool {
	for one := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(one), ";")
		if name == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
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
	f.metrics.flight.close()
	f.status.flight.close()
	f.snapshots.close()
}
