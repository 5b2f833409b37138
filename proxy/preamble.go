package proxy

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/metrics"
	"sluice/proxy/preamble"
)

// Preamble is what a listener wants to know of a connection before it is given a backend.
// The zero one is nothing.
type Preamble struct {
	Proxy    ProxyMode
	From     []netip.Prefix `json:",omitempty"` // who may send a PROXY header
	Timeout  time.Duration  // accept to the end of the preamble
	Postgres bool           // clients ask for TLS as PostgreSQL's do: see starttls_linux.go
	Routes   []Route        `json:",omitempty"` // tried before Listener.Pool
}

// ProxyMode says what a listener makes of PROXY headers.
type ProxyMode uint8

// The modes. A client that may not send a header is refused where one is required; where
// it is optional all that it sends is its payload.
const (
	ProxyOff ProxyMode = iota
	ProxyOptional
	ProxyRequired
)

// Route leads the sessions that match all that it names to a pool of their own.
type Route struct {
	ID     metrics.ID
	Name   string
	Pool   metrics.ID
	SNI    []string       `json:",omitempty"` // in lower case; *.example.com is any name below it. None = any client
	ALPN   []string       `json:",omitempty"` // one of these is offered
	Source []netip.Prefix `json:",omitempty"` // the client's address, as a PROXY header tells it
}

// inquiry is a Preamble made ready; a listener that wants to know nothing has none.
type inquiry struct {
	Preamble
	hello  bool // the ClientHello is asked for
	routes router
}

func newInquiry(l *Listener, pools map[metrics.ID]*pooled) *inquiry {
	q := &inquiry{Preamble: l.Preamble, routes: newRouter(l.Preamble.Routes), hello: pools[l.Pool].SendProxy.Names()}
	for _, r := range l.Preamble.Routes {
		q.hello = q.hello || len(r.SNI) > 0 || len(r.ALPN) > 0 || pools[r.Pool].SendProxy.Names()
	}
	if q.Proxy == ProxyOff && len(q.Routes) == 0 && !q.hello {
		return nil
	}
	return q
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// answer is what an inquiry found.
type answer struct {
	header preamble.Header
	start  preamble.Start // valid without the rest: its client waits for answers
	hello  preamble.Hello
}

// fault is why there is no answer.
type fault struct {
	reason metrics.Reason
	is     error
}

// opened is what has come of a connection, and what is known of it.
type opened struct {
	b        []byte // from the first byte on that is not understood
	mayTell  bool   // a PROXY header may begin it
	postgres bool   // requests of a PostgreSQL client may
	end      bool   // no more will come
}

// read looks for what is asked for in the first bytes of a connection. Without an answer
// and a fault more bytes are needed.
func (q *inquiry) read(in opened, scratch []byte) (found answer, done bool, f fault) {
	b, end := in.b, in.end
	if in.mayTell {
		h, need, err := preamble.ParseProxy(b)
		switch {
		case (need > 0 && end || err == preamble.FaultMissing) && q.Proxy == ProxyOptional: // then it is payload
		case err == preamble.FaultMissing:
			return found, false, fault{metrics.ReasonProxyMissing, err}
		case err != nil:
			return found, false, fault{metrics.ReasonProxyMalformed, err}
		case need > 0:
			return found, false, shortOf(need, len(b), end, metrics.ReasonProxyMalformed)
		}
		found.header = h
	}
	at := found.header.Len
	if in.postgres {
		start, need := preamble.ParsePostgres(b[at:])
		found.start = start
		if need > 0 && !end {
			return found, false, fault{}
		}
		at += start.Len
	}
	if !q.hello && !found.start.TLS {
		return found, true, fault{}
	}
	h, need, err := preamble.ParseHello(b[at:], scratch)
	switch {
	case err != nil:
		return found, false, fault{metrics.ReasonHelloMalformed, err}
	case need > 0 && end && len(b) == at && found.start.Len > 0: // it was answered, and that was all it wanted
		return found, false, fault{metrics.ReasonClientEOF, errLeft}
	case need > 0 && end && len(b) == at: // nothing at all behind the header: the backend may say so
		return found, true, fault{}
	case need == 0 && !h.TLS && found.start.TLS:
		return found, false, fault{metrics.ReasonHelloMalformed, preamble.FaultNoTLS}
	case need > 0:
		return found, false, shortOf(need, len(b), end, metrics.ReasonHelloMalformed)
	}
	found.hello = h
	return found, true, fault{}
}

// shortOf is the fault of a preamble that lacks need bytes, if it never will be whole.
func shortOf(need, has int, end bool, reason metrics.Reason) fault {
	switch {
	case end:
		return fault{reason, errCutShort}
	case has+need > preamble.Max:
		return fault{reason, preamble.FaultTooLong}
	}
	return fault{}
}

// router finds the Route of a session. More specific ones come first: an exact name, then
// the longest wildcard, then any; within each those that name a protocol, then the longest
// prefix of the source, and last the order of the configuration.
type router struct {
	byName map[string][]rule // a.example, .example for *.example, "" for any
}

type rule struct {
	alpn   []string
	source netip.Prefix // not valid = any
	to     *Route
}

func newRouter(routes []Route) router {
	r := router{byName: map[string][]rule{}}
	for i := range routes {
		route := &routes[i]
		sources := route.Source
		if len(sources) == 0 {
			sources = []netip.Prefix{{}}
		}
		names := route.SNI
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			name = strings.TrimPrefix(name, "*")
			for _, source := range sources {
				r.byName[name] = append(r.byName[name], rule{route.ALPN, source, route})
			}
		}
	}
	for _, rules := range r.byName {
		slices.SortStableFunc(rules, func(a, b rule) int {
			return cmp.Or(cmp.Compare(min(len(b.alpn), 1), min(len(a.alpn), 1)), cmp.Compare(b.source.Bits(), a.source.Bits()))
		})
	}
	return r
}

// find is a session's route; nil = it has none.
func (r router) find(h *preamble.Hello, client netip.Addr) *Route {
	name := h.Name()
	if len(name) > 0 {
		if to := among(r.byName[string(name)], h, client); to != nil {
			return to
		}
		for rest := name; ; {
			dot := bytes.IndexByte(rest[1:], '.')
			if dot < 0 {
				break
			}
			rest = rest[1+dot:]
			if to := among(r.byName[string(rest)], h, client); to != nil {
				return to
			}
			if len(rest) < 2 {
				break
			}
		}
	}
	return among(r.byName[""], h, client)
}

func among(rules []rule, h *preamble.Hello, client netip.Addr) *Route {
	for i := range rules {
		l := &rules[i]
		if l.speaks(h) && (!l.source.IsValid() || l.source.Contains(client)) {
			return l.to
		}
	}
	return nil
}

func (l *rule) speaks(h *preamble.Hello) bool {
	for _, protocol := range l.alpn {
		if h.OffersALPN(protocol) {
			return true
		}
	}
	return len(l.alpn) == 0
}
