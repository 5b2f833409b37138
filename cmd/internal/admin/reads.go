package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sluice/metrics"
)

// reads are the pages that change nothing.
func (s *Server) reads() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.figures.serveMetrics)
	mux.HandleFunc("GET /status.json", s.figures.serveStatus)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		snapshot, err := s.figures.snapshots.get(r.Context())
		if err != nil {
			say(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		code, text := readiness(snapshot)
		say(w, code, text)
	})
	mux.HandleFunc("GET /events", s.watch.serve)
	pages := []string{"sluice", "", "/metrics", "/status.json", "/readyz", "/livez", "/events"}
	if s.o.Config != nil {
		pages = append(pages, "/config")
		mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, s.o.Config()) })
	}
	mux.HandleFunc("GET /page/", servePage)
	pages = append(pages, "", "a browser shows a page here")
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if wantsPage(r) {
			servePage(w, r)
			return
		}
		say(w, http.StatusOK, strings.Join(pages, "\n"))
	})
	return mux
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
	case s.NeedsBackend && withoutBackend(s) != "":
		return http.StatusServiceUnavailable, "no backend in pool " + withoutBackend(s)
	case up < len(s.Workers):
		return http.StatusOK, "ready, " + workers
	}
	return http.StatusOK, "ready"
}

// withoutBackend is a pool that a listener needs and that has no address which may take
// sessions; "" = there is none.
func withoutBackend(s metrics.Snapshot) string {
	for _, p := range s.Pools {
		needed := slices.ContainsFunc(s.Listeners, func(l metrics.ListenerStats) bool { return l.Leads(p.Name) && !l.Leaving })
		has := slices.ContainsFunc(p.Backends, func(b metrics.BackendStats) bool {
			return slices.ContainsFunc(b.Targets, func(t metrics.TargetStats) bool { return !t.Failing })
		})
		if needed && !has {
			return p.Name
		}
	}
	return ""
}
