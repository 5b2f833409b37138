package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"
)

// ExplainQuery asks where a client would go.
type ExplainQuery struct {
	Client   netip.Addr
	Listener string   // "" = all
	SNI      string   // that its TLS asks for; "" = it asks for none
	ALPN     []string // that it offers
	Config   string   // the absolute path of a file that may come in force; "" = none
}

// Explanation says where a client would go, and why.
type Explanation struct {
	Client     string           `json:"client"`
	Generation uint64           `json:"generation"` // of the Plan in force
	Now        []Entrance       `json:"now"`        // by listener
	More       int              `json:"more"`       // listeners that are left out
	Config     *ExplainedChange `json:"config,omitempty"`
}

// ExplainedChange is what a file would change.
type ExplainedChange struct {
	Path    string     `json:"path"`
	Then    []Entrance `json:"then"`
	Changes []string   `json:"changes"` // for the client, a sentence each
}

// The outcomes of an Entrance.
const (
	OutcomeBackend   = "backend"    // it is given a backend
	OutcomeRefused   = "refused"    // by the listener; Reason says why
	OutcomeQueued    = "queued"     // it waits in the pool's queue
	OutcomeWaits     = "waits"      // for a backend, as wait_for_backend says, or for a session of its source to end
	OutcomeNoBackend = "no_backend" // there is none; Reason is the session's
)

// Entrance is what a listener does with a client.
type Entrance struct {
	Listener string `json:"listener"`
	Address  string `json:"address"` // the first of its addresses
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason,omitempty"`
	Text     string `json:"text"` // the outcome as a sentence

	Access   string             `json:"access"` // who may connect, and so this client
	Admitted bool               `json:"admitted"`
	Prefix   string             `json:"prefix,omitempty"` // that decides it
	Limits   []ExplainedLimit   `json:"limits"`
	Wait     float64            `json:"wait_seconds"` // before it is dialed, for a rate
	Steering ExplainedSteering  `json:"steering"`
	Route    string             `json:"route"` // "" = none matches
	Pool     string             `json:"pool"`
	Pick     string             `json:"pick"`
	Exact    bool               `json:"exact"` // all acceptors would try Tries
	Tries    []string           `json:"tries"` // addresses, one after the other; where each acceptor takes turns of its own, see there
	Backends []ExplainedBackend `json:"backends"`
	More     int                `json:"more_backends"` // that are left out
	Notes    []string           `json:"notes"`
}

// ExplainedLimit is a limit and what counts for it.
type ExplainedLimit struct {
	Name string `json:"name"` // the key in the configuration
	Has  int64  `json:"has"`
	Most int64  `json:"most"`
}

// ExplainedSteering says which acceptor takes the next connection.
type ExplainedSteering struct {
	Policy    string              `json:"policy"` // in force
	Text      string              `json:"text"`
	Next      *int                `json:"next"` // the acceptor; nil = it can't be known
	Acceptors []ExplainedAcceptor `json:"acceptors"`
}

// ExplainedAcceptor is one that may take it.
type ExplainedAcceptor struct {
	Number int      `json:"acceptor"`
	Load   int64    `json:"load"`            // connections that it holds here, or is about to get
	State  string   `json:"state"`           // ready, hung, leaving, paused, behind, silent
	Tries  []string `json:"tries,omitempty"` // the addresses that it would give the next session of this client
}

// ExplainedBackend is an address that the pool has.
type ExplainedBackend struct {
	Backend  string  `json:"backend"`
	Address  string  `json:"address"`
	State    string  `json:"state"` // as in status; failing and full, too
	Weight   float64 `json:"weight_in_force"`
	Sessions int64   `json:"sessions"`
	Most     int64   `json:"max_sessions"` // 0 = any number
	Backup   bool    `json:"backup"`
	Why      string  `json:"why"` // it is not like the others; "" = it is
}

// MaxExplained bounds the listeners of an answer, and MaxExplainedBackends the backends of each.
const (
	MaxExplained         = 20
	MaxExplainedBackends = 1000
)

// Check says what is wrong with a query.
func (q ExplainQuery) Check() error {
	switch {
	case !q.Client.IsValid():
		return errors.New("which client? An address, such as 10.0.0.7")
	case q.Config != "" && !filepath.IsAbs(q.Config):
		return fmt.Errorf("the path of a file must be absolute; got %q", q.Config)
	}
	return nil
}

// ParseClient reads a client's address. A port makes no difference, and is left out.
func ParseClient(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return a, fmt.Errorf("%q is no address of a client, such as 10.0.0.7", text)
		}
		a = at.Addr()
	}
	return a.Unmap().WithZone(""), nil
}

func readExplain(v url.Values) (q ExplainQuery, err error) {
	r := &reading{Values: v}
	r.only("client", "listener", "sni", "alpn", "config")
	q = ExplainQuery{Listener: v.Get("listener"), SNI: v.Get("sni"), Config: v.Get("config")}
	for _, p := range v["alpn"] {
		if p != "" {
			q.ALPN = append(q.ALPN, p)
		}
	}
	if text := v.Get("client"); text != "" {
		q.Client, err = ParseClient(text)
		r.fail("client", err)
	}
	return q, errors.Join(r.err, q.Check())
}

// Explain asks where a client would go.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (x Explanation, text []byte, err error) {
	v := url.Values{"client": {q.Client.String()}, "listener": {q.Listener}, "sni": {q.SNI}, "alpn": q.ALPN, "config": {q.Config}}
	text, err = c.ask(ctx, http.MethodGet, "explain?"+v.Encode(), maxVerdict)
	if err == nil {
		err = json.Unmarshal(text, &x)
	}
	return x, text, err
}

// explain adds to mux what tells of one client or session.
func (s *Server) explain(mux *http.ServeMux) {
	if s.o.Explain != nil {
		mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
			q, err := readExplain(r.URL.Query())
			if err == nil && q.Config != "" && !askerOf(r).local {
				say(w, http.StatusForbidden, "files are read only for callers over the socket")
				return
			}
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // names are waited for
			answerWith(w, err, func() (any, error) { return s.o.Explain(r.Context(), q) })
		})
	}
	if s.o.Trace != nil {
		mux.HandleFunc("GET /trace", func(w http.ResponseWriter, r *http.Request) {
			q, err := readTrace(r.URL.Query())
			answerWith(w, err, func() (any, error) { return s.o.Trace(q) })
		})
	}
}

// answerWith answers a question with JSON, or with what is wrong with it.
func answerWith(w http.ResponseWriter, err error, ask func() (any, error)) {
	var answer any
	if err == nil {
		answer, err = ask()
	}
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerWithin))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // fails only when the caller has gone
}
