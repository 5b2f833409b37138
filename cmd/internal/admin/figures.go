package admin

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
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

// figures takes snapshots and what is rendered of them, each for all that ask at
// the same time.
//
//	/readyz ──────────────────────────────────┐
//	/status.json ─► shelf of JSON ────────────┼─► snapshots ─► Options.Snapshot
//	/metrics ─────► shelf of snapshots ───────┘
//
// With 10,000 backends a snapshot is some 7 MB and the JSON 40; twenty scrapers must not
// have twenty of them. The text of /metrics is 45 MB and is written as it is made.
type figures struct {
	snapshots *flight[metrics.Snapshot]
	metrics   *shelf[metrics.Snapshot]
	registry  *prometheus.Registry // of the process
	log       *slog.Logger
	status    *shelf[[]byte]
}

func newFigures(snapshot func() metrics.Snapshot, log *slog.Logger) *figures {
	f := &figures{registry: prometheus.NewRegistry(), log: log}
	f.snapshots = newFlight(func() (metrics.Snapshot, error) { return snapshot(), nil })
	f.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	f.metrics = newShelf(func() (metrics.Snapshot, error) { return f.snapshots.get(context.Background()) })
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

func (f *figures) serveMetrics(w http.ResponseWriter, r *http.Request) {
	s, release, err := f.metrics.get(r.Context(), w)
	if err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer release()
	w.Header().Set("Content-Type", metrics.TextType)
	w.Header().Set("Vary", "Accept-Encoding")
	if !takesGzip(r) {
		f.scrape(w, s)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	packed := packers.Get().(*gzip.Writer)
	defer packers.Put(packed)
	packed.Reset(w)
	f.scrape(packed, s)
	_ = packed.Close() // fails only when the reader has gone
}

// scrape writes what client_golang tells of the process, less what it cannot tell, and then
// the snapshot: by name. Writing fails only when the reader has gone.
func (f *figures) scrape(w io.Writer, s metrics.Snapshot) {
	families, err := f.registry.Gather()
	if err != nil {
		f.log.Warn("metrics of the process", "error", err)
	}
	for _, family := range families {
		_, _ = expfmt.MetricFamilyToText(w, family)
	}
	_ = metrics.Scrape(w, s)
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
