package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// TraceQuery asks what happened to a session, or to those of a client.
type TraceQuery struct {
	ID     string         // as the access log has it
	Client netip.AddrPort // port 0 = any
	Limit  int            // sessions of a client, the newest; 1..MaxTraced; 0 = DefaultTraced
}

// Bounds of an answer.
const (
	DefaultTraced = 10
	MaxTraced     = 1000
	// MaxSteps is how many steps of a session are shown: what is between the first half
	// of them and the last is left out.
	MaxSteps = 200
)

// Trace is what is known of sessions.
type Trace struct {
	Recording bool            `json:"recording"`      // of steps: [log] trace
	Sessions  []TracedSession `json:"sessions"`       // the newest first
	Matched   int             `json:"matched"`        // also those that are not shown
	Since     time.Time       `json:"since,omitzero"` // as far as all records that were looked at go back; zero = nothing was forgotten yet
	Silent    []int           `json:"silent"`         // acceptors that did not answer in time: of their sessions it is not known whether they are open
	Text      string          `json:"text"`           // what there is to say if there are none
}

// The states of a TracedSession.
const (
	TraceOpen     = "open"
	TraceClosed   = "closed"
	TraceRejected = "rejected" // it was closed before it became a session
	TraceLost     = "lost"     // its worker died
	TraceUnknown  = "unknown"  // nothing says whether it is open
)

// TracedSession is what is known of one.
type TracedSession struct {
	ID       string       `json:"id"` // "" = it never was a session
	Client   string       `json:"client"`
	Listener string       `json:"listener"`
	Route    string       `json:"route,omitempty"` // that it took
	Acceptor int          `json:"acceptor"`
	State    string       `json:"state"`
	Begun    time.Time    `json:"begun"`             // accepted
	Partial  bool         `json:"partial,omitempty"` // steps are missing: they were not recorded, or are forgotten
	Steps    []TracedStep `json:"steps"`
	LeftOut  int          `json:"left_out,omitempty"` // steps in the middle
	Now      *Session     `json:"now,omitempty"`      // of one that is open
}

// TracedStep is one thing that happened.
type TracedStep struct {
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"` // since the accept
	Step    string    `json:"step"`    // accepted, waits, dials, dial_failed, connected, closed, rejected, worker_died
	Pool    string    `json:"pool,omitempty"`
	Backend string    `json:"backend,omitempty"`
	Address string    `json:"address,omitempty"`
	Reason  string    `json:"reason,omitempty"`   // why it failed, ended or was rejected
	Took    float64   `json:"took,omitempty"`     // seconds, of a connect
	In      uint64    `json:"bytes_in,omitempty"` // at the end
	Out     uint64    `json:"bytes_out,omitempty"`
	Path    string    `json:"path,omitempty"` // copy or splice
}

// Check says what is wrong with a query.
func (q TraceQuery) Check() error {
	switch {
	case (q.ID == "") == !q.Client.Addr().IsValid():
		return errors.New("which one? Either a session's ID, such as 2-17-1f3a9c0d, or a client, such as 10.0.0.7")
	case q.Limit < 0 || q.Limit > MaxTraced:
		return fmt.Errorf("limit must be from 1 to %d; got %d", MaxTraced, q.Limit)
	}
	return nil
}

// Most is the limit that holds.
func (q TraceQuery) Most() int { return cmp.Or(q.Limit, DefaultTraced) }

// ParseTraced reads what a person types: a session's ID or a client, with a port or without.
func ParseTraced(text string) (q TraceQuery) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return TraceQuery{Client: netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())}
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return TraceQuery{Client: netip.AddrPortFrom(a.Unmap().WithZone(""), 0)}
	}
	return TraceQuery{ID: text}
}

func (q TraceQuery) query() url.Values {
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	switch {
	case q.ID != "":
		v.Set("id", q.ID)
	case q.Client.Port() == 0:
		v.Set("client", q.Client.Addr().String())
	default:
		v.Set("client", q.Client.String())
	}
	return v
}

func readTrace(v url.Values) (q TraceQuery, err error) {
	r := &reading{Values: v}
	r.only("id", "client", "limit")
	if text := v.Get("client"); text != "" {
		if q = ParseTraced(text); !q.Client.Addr().IsValid() {
			r.fail("client", fmt.Errorf("%q is no address of a client, such as 10.0.0.7", text))
		}
	}
	q.ID, q.Limit = v.Get("id"), int(r.number("limit"))
	if r.err != nil {
		return q, r.err
	}
	return q, q.Check()
}

// Trace asks what happened to sessions.
func (c *Client) Trace(ctx context.Context, q TraceQuery) (t Trace, text []byte, err error) {
	text, err = c.ask(ctx, http.MethodGet, "trace?"+q.query().Encode(), maxVerdict)
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	return t, text, err
}
