package discovery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// name is one that is looked up: a host with two parts, or a service with one.
type name struct {
	host     string
	service  bool
	wanted   bool // by Want; else only by a service
	interval time.Duration
	full     string // the candidate that was found; "" = they must be gone through
	state    int    // what the log was told
	parts    []part
	records  []record // of a service
	ctx      context.Context
	end      context.CancelFunc
}

// part is one type of a name.
type part struct {
	of    *name
	qtype uint16

	due   time.Time
	index int // in the queue; -1 = it is not there: it waits in a lane, or is asked for

	result   Result // of the last lookup; "" = none yet
	through  string // servers have said something of every candidate up to this one; "" = not so
	set      set
	answered time.Time // when a server last said what is in use
	failures int       // lookups in a row that said nothing
	denials  int       // or that said there is nothing, while something is in use
}

func newName(host string) *name {
	n := &name{host: host, end: func() {}}
	types := []uint16{dns.TypeA, dns.TypeAAAA}
	if strings.HasPrefix(host, ServicePrefix) {
		n.service, types = true, []uint16{dns.TypeSRV}
	}
	for _, t := range types {
		n.parts = append(n.parts, part{of: n, qtype: t, index: -1})
	}
	return n
}

func (n *name) begin(ctx context.Context) { n.ctx, n.end = context.WithCancel(ctx) }

// asked is what servers are asked for.
func (n *name) asked() string { return strings.TrimPrefix(n.host, ServicePrefix) }

// other is the other part of a host; nil for a service.
func (p *part) other() *part {
	if p.of.service {
		return nil
	}
	if p == &p.of.parts[0] {
		return &p.of.parts[1]
	}
	return &p.of.parts[0]
}

// complete says that no part waits for its first answer.
func (n *name) complete() bool {
	return !slices.ContainsFunc(n.parts, func(p part) bool { return p.result == "" })
}

// has says that the name stands for something.
func (n *name) has() bool {
	return len(n.records) > 0 || slices.ContainsFunc(n.parts, func(p part) bool { return len(p.set.now) > 0 })
}

// stale says that what the name stands for was not confirmed by the last lookup of a part
// that it is of.
func (n *name) stale() bool {
	return slices.ContainsFunc(n.parts, func(p part) bool {
		return !p.result.says() && p.result != "" && (len(p.set.now) > 0 || n.service && len(n.records) > 0)
	})
}

// targets are those of a host.
func (n *name) targets() (all []Target) {
	var both []ranked
	for _, p := range n.parts {
		both = append(both, p.set.now...)
	}
	slices.SortFunc(both, ranked.compare)
	for _, a := range both {
		all = append(all, Target{Addr: a.addr})
	}
	return all
}

const (
	// After believedAfter answers in a row that there is nothing a name loses what it
	// stood for: one may be a slip, as of a name server that starts.
	believedAfter = 3
	// retryAtMost bounds the pace at which faults are asked about.
	retryAtMost = 30 * time.Second
	// deniedFor is the pace at which a name that has nothing is asked about, where the server
	// does not say for how long that holds.
	deniedFor = 5 * time.Second
	// hostsEvery is how often a name of /etc/hosts is looked up there.
	hostsEvery = 5 * time.Second
)

// take brings a part in line with an answer. It returns when to ask again, and whether
// what the name stands for has changed.
func (p *part) take(a answer, set Settings, now time.Time) (due time.Time, changed bool) {
	n := p.of
	p.result = a.result
	if a.result.says() {
		p.failures = 0
	}
	var again time.Duration
	switch {
	case a.result == Found:
		p.answered, p.denials = now, 0
		if n.service {
			slices.SortFunc(a.records, record.compare)
			changed = !slices.Equal(n.records, a.records)
			n.records = a.records
		} else {
			changed = p.set.take(a.addrs, now)
		}
		again = a.ttl
	case a.result.says():
		again = a.ttl
		nothing := len(p.set.now) == 0 && len(n.records) == 0
		if p.denials++; nothing || p.denials >= believedAfter {
			changed = p.clear(now)
		} else {
			again = set.TTLMin
		}
		switch {
		case again < 0 && n.has():
			again = retryAtMost
		case again < 0:
			again = deniedFor
		case !n.has():
			again = min(again, retryAtMost)
		}
	default:
		again = min(set.TTLMin<<min(p.failures, 10), retryAtMost)
		p.failures++
		if now.Sub(p.answered) > set.Hold {
			changed = p.clear(now)
		}
	}
	if n.interval > 0 {
		again = min(again, n.interval)
	}
	return now.Add(max(min(again, set.TTLMax), set.TTLMin)), changed
}

// clear takes away what a part stood for.
func (p *part) clear(now time.Time) (changed bool) {
	changed = p.set.clear(now)
	if p.of.service {
		changed = len(p.of.records) > 0
		p.of.records = nil
	}
	return changed
}
