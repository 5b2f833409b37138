package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/metrics"
)

// Twenty scrapers while a snapshot is being taken: it and one more serve them all, over
// all pages.
func TestScrapersShare(t *testing.T) {
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	var taken, atOnce, most atomic.Int64
	r := start(t, Options{Snapshot: func() metrics.Snapshot {
		taken.Add(1)
		most.Store(max(most.Load(), atOnce.Add(1)))
		defer atOnce.Add(-1)
		begun <- struct{}{}
		<-goOn
		return metrics.Snapshot{Service: metrics.Service{Ready: true}, Workers: workers(metrics.WorkerRunning)}
	}}, nil)
	var all []*client
	for _, page := range []string{"/metrics", "/status.json", "/readyz"} {
		for range 20 {
			c := r.dial()
			c.send(request(page))
			all = append(all, c)
		}
	}
	<-begun
	eventually(t, "all wait", func() bool {
		r.onTCP.mu.Lock()
		defer r.onTCP.mu.Unlock()
		return r.onTCP.answering.Len() == len(all)
	})
	close(goOn)
	for _, c := range all {
		if status, body := c.answer(); status != 200 || body == "" {
			t.Errorf("%d %q", status, body)
		}
	}
	// Each kind of page renders at most twice; a client that came during the first is in the second.
	if n := taken.Load(); n > 6 || most.Load() > 1 {
		t.Errorf("%d snapshots for %d requests, up to %d at once", n, len(all), most.Load())
	}
}

func TestFlightIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := newFlight(func() (int, error) {
			time.Sleep(time.Second)
			n++
			return n, nil
		})
		var all sync.WaitGroup
		ask := func(want int, within time.Duration) {
			all.Go(func() {
				began := time.Now()
				if v, err := f.get(t.Context()); v != want || err != nil || time.Since(began) > within {
					t.Errorf("got %d, %v after %v; want %d within %v", v, err, time.Since(began), want, within)
				}
			})
		}
		ask(1, time.Second)
		time.Sleep(time.Millisecond)
		for range 20 {
			ask(2, 2*time.Second) // not the first: it was begun before they asked
		}
		all.Wait()
		gone, leave := context.WithCancel(t.Context())
		ask(3, time.Second)
		time.Sleep(time.Millisecond)
		ask(4, 2*time.Second)
		time.Sleep(time.Millisecond)
		leave()
		if _, err := f.get(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("one that has gone: %v", err)
		}
		all.Wait()
		f.close()
		if _, err := f.get(t.Context()); err != errClosed {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What panics is one request's fault: those that waited with it get the error, and the
// next is served.
func TestFlightBearsAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := true
		f := newFlight(func() (int, error) {
			time.Sleep(time.Second)
			if bad {
				bad = false
				panic("taken badly")
			}
			return 1, nil
		})
		f.turn <- struct{}{} // so that both are in one flight
		var all sync.WaitGroup
		all.Go(func() {
			defer func() { _ = recover() }() // as net/http does
			_, _ = f.get(t.Context())
			t.Error("no panic")
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := f.get(t.Context()); err != errFailed {
				t.Errorf("one that waited: %v", err)
			}
		})
		synctest.Wait()
		<-f.turn
		all.Wait()
		if v, err := f.get(t.Context()); v != 1 || err != nil {
			t.Errorf("afterwards: %d, %v", v, err)
		}
	})
}

// reader is a response writer that notes when it is cut.
type reader struct {
	http.ResponseWriter
	cut bool
}

func (r *reader) SetWriteDeadline(time.Time) error { r.cut = true; return nil }

func newReader() *reader { return &reader{ResponseWriter: httptest.NewRecorder()} }

func TestShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := newShelf(func() (int, error) {
			n++
			return n, nil
		})
		get := func(r *reader, want int) (release func()) {
			t.Helper()
			v, release, err := s.get(t.Context(), r)
			if v != want || err != nil {
				t.Errorf("got %d, %v; want %d", v, err, want)
			}
			return release
		}
		get(newReader(), 1)() // a fast reader leaves nothing behind
		slow := []*reader{newReader(), newReader(), newReader()}
		get(slow[0], 2)
		get(slow[1], 3)
		release := get(slow[2], 3) // full, and the newest is young
		time.Sleep(freshFor)
		if slow[0].cut {
			t.Error("a reader is cut while nobody needs its place")
		}
		fresh := newReader()
		get(fresh, 4) // the oldest makes room
		if !slow[0].cut || slow[1].cut || slow[2].cut || fresh.cut {
			t.Error("not just the slowest reader was cut")
		}
		release()
		if len(s.held) != shelfHolds {
			t.Errorf("%d copies are held", len(s.held))
		}
	})
}

// What client_golang cannot tell of the process is a line in the log, and the rest is there.
func TestFaultyProcessMetrics(t *testing.T) {
	var log logBuffer
	f := newFigures(func() metrics.Snapshot { return metrics.Snapshot{} }, slog.New(slog.NewTextHandler(&log, nil)))
	defer f.close()
	f.registry.MustRegister(broken{})
	w := httptest.NewRecorder()
	f.serveMetrics(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "two of a kind") {
		t.Errorf("the log says %q", got)
	}
	if text := w.Body.String(); !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nsluice_ready 0\n") {
		t.Error(text)
	}
}

// broken is a collector that fails.
type broken struct{}

func (broken) Describe(chan<- *prometheus.Desc) {}
func (broken) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(errors.New("two of a kind")), errors.New("two of a kind"))
}

// A client that takes gzip gets it, and the same text; a registry's own metrics come first.
func TestMetricsPacked(t *testing.T) {
	r := start(t, Options{Snapshot: func() metrics.Snapshot { return metrics.Snapshot{} }}, nil)
	ask := func(encoding string) *httptest.ResponseRecorder {
		w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
		q.Header.Set("Accept-Encoding", encoding)
		r.figures.serveMetrics(w, q)
		return w
	}
	for encoding, packed := range map[string]bool{
		"": false, "br": false, "gzip": true, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.5": true, "identity": false,
	} {
		w := ask(encoding)
		var text io.Reader = w.Body
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != packed {
			t.Fatalf("%q: packed %v", encoding, got)
		}
		if packed {
			var err error
			if text, err = gzip.NewReader(w.Body); err != nil {
				t.Fatal(err)
			}
		}
		all, err := io.ReadAll(text)
		if err != nil || !bytes.HasPrefix(all, []byte("# HELP go_")) || !bytes.Contains(all, []byte("\nsluice_ready 0\n")) {
			t.Errorf("%q: %v, %.100q", encoding, err, all)
		}
	}
}
