package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Verbs over TCP are for machines that can't reach the socket. Each needs all of these:
//
//	[admin] allow_write           else the paths are not there: 404
//	a Host that is no other's     else a page whose name was made to lead here could ask: 421
//	no Origin but this Host's,    else a page of another site asks: 403
//	and no Sec-Fetch-Site of one
//	Authorization: Bearer TOKEN   else 401. A browser adds it by itself for no page, and no page of
//	                              another site may: its preflight gets no answer that allows it
//
// Reads over TCP need the first two checks of Host and Origin only.

const (
	// MinToken is the least length of a token. 16 random bytes in hex have 32 characters; at a
	// thousand tries a second 16 characters of hex still last for half a billion years.
	MinToken = 16
	maxToken = 4 << 10

	tokenFile = "file:"
	tokenEnv  = "env:"
)

// ReadToken reads a token from its place, "file:/PATH" or "env:NAME". A file is read anew each time, so that it can be
// replaced; spaces and line ends around the token do not belong to it.
func ReadToken(place string) (string, error) {
	text := ""
	if path, isFile := strings.CutPrefix(place, tokenFile); isFile {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe there would block
		if err != nil {
			return "", err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return "", fmt.Errorf("%s is no plain file", path)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxToken))
		if err != nil {
			return "", err
		}
		text = string(b)
	} else {
		text = os.Getenv(strings.TrimPrefix(place, tokenEnv))
	}
	if text = strings.TrimSpace(text); len(text) < MinToken || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("%s: a token must be one word of at least %d characters", place, MinToken)
	}
	return text, nil
}

// sameOrigin refuses what a page of another site asks for, wherever it is from.
func sameOrigin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origins, sent := r.Header["Origin"]; sent && (len(origins) != 1 || !isOrigin(origins[0], r.Host)) {
			say(w, http.StatusForbidden, "a page of another site is not answered")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isOrigin says whether an Origin is that of pages from a host.
func isOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, host)
}

// withVerbs answers verbs over TCP, to those that may; anything else is left to reads.
func (s *Server) withVerbs(reads http.Handler) http.Handler {
	verbs := s.verbs(http.NewServeMux())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.TokenPlace == nil || s.o.TokenPlace() == "" {
			reads.ServeHTTP(w, r)
			return
		}
		if _, pattern := verbs.Handler(r); pattern == "" {
			reads.ServeHTTP(w, r)
			return
		}
		if code, text, err := s.mayWrite(r); code != 0 {
			s.refused.log(s.o.Log, r, text, err)
			if code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			}
			say(w, code, text)
			return
		}
		verbs.ServeHTTP(w, r)
	})
}

// mayWrite says with what status a request is refused, and why; 0 = it is not. err is for
// the log only.
func (s *Server) mayWrite(r *http.Request) (code int, text string, err error) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return http.StatusForbidden, "a page of another site may change nothing", nil
	}
	kind, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") || len(r.Header["Authorization"]) != 1 {
		return http.StatusUnauthorized, "this needs the token: Authorization: Bearer TOKEN", nil
	}
	want, err := ReadToken(s.o.TokenPlace())
	if err != nil {
		return http.StatusServiceUnavailable, "the token can't be read; the log says why", err
	}
	// Of the same length, so that the time tells nothing.
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return http.StatusUnauthorized, "this is not the token", nil
	}
	return 0, "", nil
}

// refusals go to the log once a second: a client that tries many tokens must not fill it.
type refusals struct {
	mu    sync.Mutex
	last  time.Time
	quiet int // since then
}

func (f *refusals) log(log *slog.Logger, r *http.Request, text string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.last) < time.Second {
		f.quiet++
		return
	}
	said := []any{"path", r.URL.Path, "from", r.RemoteAddr, "text", text, "others_before", f.quiet}
	if err != nil {
		said = append(said, "error", err)
	}
	log.Warn("a verb was refused", said...)
	f.last, f.quiet = time.Now(), 0
}

// asker is the caller that has asked for a verb, for the log and for people who see what it did.
type asker struct {
	caller Caller
	local  bool // by the socket: caller holds
	from   string
}

func askerOf(r *http.Request) asker {
	if c, local := r.Context().Value(callerKey{}).(Caller); local {
		return asker{c, true, "socket"}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return asker{from: host}
}

func (a asker) String() string {
	if a.local {
		return fmt.Sprintf("uid %d, pid %d", a.caller.UID, a.caller.PID)
	}
	return "token, from " + a.from
}

// attrs say it in the log.
func (a asker) attrs() []slog.Attr {
	if a.local {
		return []slog.Attr{slog.Uint64("uid", uint64(a.caller.UID)), slog.Int64("pid", int64(a.caller.PID))}
	}
	return []slog.Attr{slog.String("who", "token")}
}
