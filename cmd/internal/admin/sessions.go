package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// SessionQuery says which sessions are meant: those to which all of it applies. The zero
// value means all.
type SessionQuery struct {
	ID       string         // as the access log has it
	From     []netip.Prefix // clients; any of them
	Listener string
	Pool     string
	To       string        // a backend as configured, or one of its addresses
	State    string        // one of States
	MinAge   time.Duration // 0 = no bound, here and below
	MaxAge   time.Duration
	MinIdle  time.Duration
	MinBytes uint64
	MaxBytes uint64
}

// SessionOrder says which sessions are shown, and in which order.
type SessionOrder struct {
	Sort  string // one of Sorts; "" = the first
	Limit int    // 1..MaxSessions; 0 = DefaultSessions
}

// The words of a SessionQuery and a SessionOrder.
var (
	States = []string{"waiting", "dialing", "relaying", "half_closed"}
	Sorts  = []string{"oldest", "newest", "idle", "bytes"}
)

// Bounds of an answer.
const (
	DefaultSessions = 100
	MaxSessions     = 10_000 // some 2 MiB
	maxPrefixes     = 1000
)

// SessionList is what is known of sessions.
type SessionList struct {
	Sessions []Session `json:"sessions"`
	Matched  int       `json:"matched"` // also those that are not shown
	Open     int       `json:"open"`    // all that were looked at
	Silent   []int     `json:"silent"`  // acceptors that did not answer in time: nothing is known of their sessions
}

// Session is one of them.
type Session struct {
	ID          string  `json:"id"`
	Client      string  `json:"client"` // "" = it has gone
	Listener    string  `json:"listener"`
	Pool        string  `json:"pool"`
	Backend     string  `json:"backend"` // "" = it has none
	Address     string  `json:"address"` // of the backend
	State       string  `json:"state"`
	AgeSeconds  float64 `json:"age_seconds"`
	IdleSeconds float64 `json:"idle_seconds"` // since the last byte in either direction
	Received    uint64  `json:"received"`     // bytes from the client
	Sent        uint64  `json:"sent"`         // bytes that the client has acknowledged
}

// KillOrder says which sessions are to be ended.
type KillOrder struct {
	SessionQuery
	Max       int    // nothing is ended if more than these are meant; 0 = none are, it is only said how many there are
	PerSecond int    // 0 = all at once
	Reason    string // at most MaxReason bytes, for the log
}

// Check says what is wrong with a query.
func (q SessionQuery) Check() error {
	switch {
	case q.State != "" && !slices.Contains(States, q.State):
		return fmt.Errorf("state must be one of %s; got %q", strings.Join(States, ", "), q.State)
	case q.MinAge < 0 || q.MaxAge < 0 || q.MinIdle < 0:
		return errors.New("a time must not be below 0s")
	case q.MaxAge > 0 && q.MaxAge < q.MinAge:
		return fmt.Errorf("no session is older than %s and younger than %s", q.MinAge, q.MaxAge)
	case q.MaxBytes > 0 && q.MaxBytes < q.MinBytes:
		return fmt.Errorf("no session has at least %d bytes and at most %d", q.MinBytes, q.MaxBytes)
	case len(q.From) > maxPrefixes:
		return fmt.Errorf("there may be %d prefixes at a time", maxPrefixes)
	}
	return nil
}

// Check says what is wrong with an order.
func (o SessionOrder) Check() error {
	switch {
	case o.Sort != "" && !slices.Contains(Sorts, o.Sort):
		return fmt.Errorf("sort must be one of %s; got %q", strings.Join(Sorts, ", "), o.Sort)
	case o.Limit < 0 || o.Limit > MaxSessions:
		return fmt.Errorf("limit must be from 1 to %d; got %d", MaxSessions, o.Limit)
	}
	return nil
}

// Check says what is wrong with an order.
func (o KillOrder) Check() error {
	switch {
	case o.Max < 0:
		return fmt.Errorf("max must not be below 0; got %d", o.Max)
	case o.PerSecond < 0 || o.PerSecond > MaxPerSecond:
		return fmt.Errorf("per-second must be from 1 to %d; got %d", MaxPerSecond, o.PerSecond)
	case len(o.Reason) > MaxReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("the reason must be text of at most %d bytes", MaxReason)
	}
	return o.SessionQuery.Check()
}

// ParsePrefixes reads addresses and prefixes with commas between them.
func ParsePrefixes(text string) (all []netip.Prefix, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		if err != nil {
			addr, err := netip.ParseAddr(part)
			if err != nil {
				return nil, fmt.Errorf("%q is no address and no prefix, such as 10.0.0.7 or 10.0.0.0/8", part)
			}
			p = netip.PrefixFrom(addr.Unmap().WithZone(""), addr.Unmap().BitLen())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

func (q SessionQuery) query() url.Values {
	v := url.Values{"id": {q.ID}, "listener": {q.Listener}, "pool": {q.Pool}, "to": {q.To}, "state": {q.State},
		"min_age": {q.MinAge.String()}, "max_age": {q.MaxAge.String()}, "min_idle": {q.MinIdle.String()},
		"min_bytes": {strconv.FormatUint(q.MinBytes, 10)}, "max_bytes": {strconv.FormatUint(q.MaxBytes, 10)}}
	for _, p := range q.From {
		v.Add("from", p.String())
	}
	return v
}

// reading collects the first fault of many values.
type reading struct {
	url.Values
	err error
}

func (r *reading) fail(name string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (r *reading) duration(name string) (d time.Duration) {
	if text := r.Get(name); text != "" {
		var err error
		d, err = time.ParseDuration(text)
		r.fail(name, err)
	}
	return d
}

func (r *reading) number(name string) (n uint64) {
	if text := r.Get(name); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 63)
		r.fail(name, err)
	}
	return n
}

// only refuses a name that is not known: a filter that is misspelt must not widen what is
// meant to all.
func (r *reading) only(names ...string) {
	for name := range r.Values {
		if !slices.Contains(names, name) {
			r.fail(name, errors.New("there is no such parameter"))
		}
	}
}

var queryNames = []string{"id", "from", "listener", "pool", "to", "state", "min_age", "max_age", "min_idle", "min_bytes", "max_bytes"}

func (r *reading) sessions() SessionQuery {
	q := SessionQuery{
		ID: r.Get("id"), Listener: r.Get("listener"), Pool: r.Get("pool"), To: r.Get("to"), State: r.Get("state"),
		MinAge: r.duration("min_age"), MaxAge: r.duration("max_age"), MinIdle: r.duration("min_idle"),
		MinBytes: r.number("min_bytes"), MaxBytes: r.number("max_bytes"),
	}
	for _, text := range r.Values["from"] {
		p, err := ParsePrefixes(text)
		r.fail("from", err)
		q.From = append(q.From, p...)
	}
	return q
}

func readSessions(v url.Values) (q SessionQuery, o SessionOrder, err error) {
	r := &reading{Values: v}
	r.only(append(queryNames, "sort", "limit")...)
	q, o = r.sessions(), SessionOrder{Sort: v.Get("sort"), Limit: int(r.number("limit"))}
	return q, o, errors.Join(r.err, q.Check(), o.Check())
}

func readKill(v url.Values) (o KillOrder, err error) {
	r := &reading{Values: v}
	r.only(append(queryNames, "max", "per_second", "reason")...)
	o = KillOrder{SessionQuery: r.sessions(), Max: int(r.number("max")), PerSecond: int(r.number("per_second")), Reason: v.Get("reason")}
	return o, errors.Join(r.err, o.Check())
}

// Sessions asks for the sessions that there are.
func (c *Client) Sessions(ctx context.Context, q SessionQuery, o SessionOrder) (list SessionList, text []byte, err error) {
	v := q.query()
	v.Set("sort", o.Sort)
	v.Set("limit", strconv.Itoa(o.Limit))
	text, err = c.ask(ctx, http.MethodGet, "sessions?"+v.Encode(), maxVerdict)
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	return list, text, err
}

// Kill asks for sessions to be ended. An order that was refused is a Verdict, not an error.
func (c *Client) Kill(ctx context.Context, o KillOrder) (Verdict, error) {
	v := o.query()
	v.Set("max", strconv.Itoa(o.Max))
	v.Set("per_second", strconv.Itoa(o.PerSecond))
	v.Set("reason", o.Reason)
	return c.do(ctx, "kill", v)
}

// sessions adds to mux what shows and ends sessions. A caller that may not change
// anything does not see them either: they name clients.
func (s *Server) sessions(mux *http.ServeMux) {
	if s.o.Sessions != nil {
		mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, r *http.Request) {
			q, o, err := readSessions(r.URL.Query())
			if err != nil {
				say(w, http.StatusBadRequest, err.Error())
				return
			}
			list, err := s.o.Sessions(q, o)
			if err != nil {
				say(w, http.StatusBadRequest, err.Error())
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(list) // fails only when the caller has gone
		})
	}
	if s.o.Kill != nil {
		mux.HandleFunc("POST /kill", s.verb("kill", func(_ context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
			o, err := readKill(r.URL.Query())
			if err != nil {
				return Verdict{}, nil, err
			}
			v := s.o.Kill(o)
			return v, append(o.attrs(), slog.String("text", v.Text)), nil
		}))
	}
}

// attrs are what the log says of an order: what it has.
func (o KillOrder) attrs() (attrs []slog.Attr) {
	v := o.query()
	for _, name := range queryNames {
		if text := strings.Join(v[name], ","); text != "" && text != "0s" && text != "0" {
			attrs = append(attrs, slog.String(name, text))
		}
	}
	return append(attrs, slog.Int("max", o.Max), slog.Int("per_second", o.PerSecond), slog.String("reason", o.Reason))
}
