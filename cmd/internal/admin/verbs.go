package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"
)

// Caller is the process at the other end of the socket, as the kernel says it was when
// it connected.
type Caller struct {
	UID uint32
	PID int32
}

// Verdict is what a verb answers: plain JSON, with status 200 if OK and else 422.
type Verdict struct {
	OK         bool     `json:"ok"`
	Text       string   `json:"text"`       // what a person reads; of a faulty configuration the very text of sluice check
	Generation uint64   `json:"generation"` // of the Plan in force
	SHA256     string   `json:"sha256"`     // of the configuration in force
	Changes    []string `json:"changes"`    // one line each
}

// verbs adds to mux what changes things.
func (s *Server) verbs(mux *http.ServeMux) *http.ServeMux {
	if s.o.Reload != nil {
		mux.HandleFunc("POST /reload", s.verb("reload", func(ctx context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
			dryRun, err := truth(r.URL.Query().Get("dry_run"))
			if err != nil {
				return Verdict{}, nil, err
			}
			return s.o.Reload(ctx, dryRun), []slog.Attr{slog.Bool("dry_run", dryRun)}, nil
		}))
	}
	if s.o.Drain != nil {
		mux.HandleFunc("POST /drain", s.verb("drain", func(_ context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
			now, err := truth(r.URL.Query().Get("now"))
			if err != nil {
				return Verdict{}, nil, err
			}
			return s.o.Drain(now), []slog.Attr{slog.Bool("now", now)}, nil
		}))
	}
	if s.o.Backend != nil {
		mux.HandleFunc("POST /backend", s.verb("backend", func(_ context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
			o, err := readOrder(r.URL.Query())
			if err != nil {
				return Verdict{}, nil, err
			}
			o.Who = askerOf(r).String()
			attrs := []slog.Attr{slog.String("backend", o.Backend), slog.String("pool", o.Pool), slog.String("want", o.Want),
				slog.Int("weight", o.Weight), slog.Duration("for", o.For), slog.String("reason", o.Reason)}
			return s.o.Backend(o), attrs, nil
		}))
	}
	if s.o.LogLevel != nil {
		mux.HandleFunc("POST /log/level", s.verb("log level", func(_ context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
			word := r.URL.Query().Get("level")
			level, err := LevelOf(word)
			if err != nil {
				return Verdict{}, nil, err
			}
			return s.o.LogLevel(level), []slog.Attr{slog.String("to", word)}, nil
		}))
	}
	s.sessions(mux)
	s.rebalance(mux)
	s.explain(mux)
	return mux
}

// LevelOf is the level that a word names.
func LevelOf(word string) (level slog.Level, err error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, word) {
		return level, fmt.Errorf("%q is no level: there are debug, info, warn and error", word)
	}
	return level, level.UnmarshalText([]byte(word))
}

func truth(text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	return strconv.ParseBool(text)
}

// verb runs do for as long as it takes, logs who asked for what and how it ended, and
// answers with the verdict. An error of do says that the request makes no sense.
func (s *Server) verb(name string, do func(context.Context, *http.Request) (Verdict, []slog.Attr, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetWriteDeadline(time.Time{}) // fails only if the caller has gone
		shown := s.o.Log.Enabled(r.Context(), slog.LevelInfo)
		v, attrs, err := do(r.Context(), r)
		if err != nil {
			v.Text = err.Error()
		}
		who := askerOf(r)
		attrs = append(append(attrs, who.attrs()...), slog.Bool("ok", v.OK), slog.Uint64("generation", v.Generation), slog.String("from", who.from))
		level, code := slog.LevelInfo, http.StatusOK
		if !v.OK {
			level, code = slog.LevelWarn, http.StatusUnprocessableEntity
			if !slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "text" }) {
				attrs = append(attrs, slog.String("text", v.Text))
			}
		}
		if shown || s.o.Log.Enabled(r.Context(), level) { // a verb that changes the level is logged by either
			line := slog.NewRecord(time.Now(), level, name+" was asked for", 0)
			line.AddAttrs(attrs...)
			_ = s.o.Log.Handler().Handle(r.Context(), line)
		}
		if err != nil {
			say(w, http.StatusBadRequest, v.Text)
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(answerWithin))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v) // fails only when the caller has gone
	}
}

// onlyOwn answers root and the user that the service runs as.
func onlyOwn(h http.Handler) http.Handler {
	own := uint32(os.Geteuid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, known := r.Context().Value(callerKey{}).(Caller); !known || c.UID != 0 && c.UID != own {
			say(w, http.StatusForbidden, "only root and user "+strconv.Itoa(int(own))+", which sluice runs as, may ask here")
			return
		}
		h.ServeHTTP(w, r)
	})
}

type callerKey struct{}

// withCaller notes which process has connected. Without that nothing is answered.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	if c, err := peerOf(conn); err == nil {
		return context.WithValue(ctx, callerKey{}, c)
	}
	return ctx
}
