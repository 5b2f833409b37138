package discovery

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Resolver keeps what names stand for, and asks again as their TTLs run out.
//
//	Want(names) ─► name ─┬─ part A    ─┐  due ─► lane (bounded) ─► asker ─► answer ─┐
//	                     ├─ part AAAA ─┤    ▲                                       │
//	                     └─ part SRV ──┘    └────── TTL, or a retry that backs off ─┤
//	                          │                                                     │
//	                          └─ set (damped) ◄─────────────────────────────────────┘ ─► Changed
//
// The types of a name are parts of their own: each has its addresses, its time and its
// faults, so one that is not answered takes nothing from the other and holds nothing up.
// Half of the lookups that may run at a time are kept for parts that answered last time;
// AAAA, and what failed, share the other half.
type Resolver struct {
	log     *slog.Logger
	system  system
	changed chan struct{}

	mu      sync.Mutex
	set     Settings
	ctx     context.Context // of Run; nil before
	names   map[string]*name
	queue   queue
	lanes   [2]lane
	wake    chan struct{} // Run looks at the queue again
	moved   chan struct{} // closed and replaced when an answer has come
	telling bool          // Changed will be told
	quiet   quietServers
	counts  map[Result]uint64
	running sync.WaitGroup
}

// Settings are how names are resolved. The zero value of a field is what the system says,
// or the default.
type Settings struct {
	Servers     []netip.AddrPort
	Search      []string // domains; one that is "." alone = none
	Timeout     time.Duration
	Attempts    int
	TTLMin      time.Duration // no TTL counts for less, nor is a fault asked about sooner
	TTLMax      time.Duration // nor for more
	Hold        time.Duration // what a name stood for is kept so long while no server says anything
	Concurrency int           // lookups at a time, at least 2; each takes a descriptor

	resolvPath, hostsPath string // of tests
}

// Name is one to be looked up.
type Name struct {
	// Host is a host's name, or ServicePrefix and the name of a service.
	Host string
	// Interval is the longest time between two lookups; 0 = as the TTLs say.
	Interval time.Duration
}

// ServicePrefix stands before names whose SRV records are meant.
const ServicePrefix = "srv:"

// Target is one address that a name stands for.
type Target struct {
	Addr   netip.Addr
	Port   uint16 // of a service; 0 = the caller knows it
	Weight int    // 1..256, of a service; 0 = the caller knows it
	Backup bool   // a service's that has a higher priority number than the lowest
}

// NewResolver asks nothing before Run.
func NewResolver(set Settings, log *slog.Logger) *Resolver {
	r := &Resolver{
		log: log, changed: make(chan struct{}, 1), names: map[string]*name{}, wake: make(chan struct{}, 1), moved: make(chan struct{}),
		quiet: quietServers{}, counts: map[Result]uint64{},
	}
	r.system = system{resolvPath: cmp.Or(set.resolvPath, "/etc/resolv.conf"), hostsPath: cmp.Or(set.hostsPath, "/etc/hosts")}
	r.configureLocked(set)
	return r
}

// Configure replaces the settings. Lookups under way end as they began.
func (r *Resolver) Configure(set Settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	servers := r.set.Servers
	r.configureLocked(set)
	if !slices.Equal(servers, set.Servers) { // what failed may not fail there
		for _, n := range r.names {
			for i := range n.parts {
				if p := &n.parts[i]; !p.result.says() && p.index >= 0 {
					r.queue.at(p, time.Now())
				}
			}
		}
	}
	r.dispatchLocked()
	r.wakeUp()
}

func (r *Resolver) configureLocked(set Settings) {
	set.Concurrency = max(set.Concurrency, 2)
	r.set = set
	r.lanes[slowLane].limit = set.Concurrency / 2
	r.lanes[fastLane].limit = set.Concurrency - set.Concurrency/2
}

// Changed tells, some time after it happened, that names stand for something else. One
// that is not waited for stays there.
func (r *Resolver) Changed() <-chan struct{} { return r.changed }

// gather is how long changes are collected before Changed tells: a name's other type,
// and other names that change in the same moment, take no step of their own then.
const gather = 50 * time.Millisecond

// Want replaces the names. One that is not wanted any more is forgotten, with its
// lookups; one that is new is looked up at once.
func (r *Resolver) Want(names []Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		n.wanted = false
	}
	for _, w := range names {
		n := r.nameLocked(w.Host)
		if !n.wanted || w.Interval != 0 && (n.interval == 0 || w.Interval < n.interval) { // of several the shortest
			n.interval = w.Interval
		}
		n.wanted = true
	}
	r.sweepLocked()
	r.dispatchLocked()
	r.wakeUp()
}

// nameLocked is the entry of a host, which may be new.
func (r *Resolver) nameLocked(host string) *name {
	n := r.names[host]
	if n == nil {
		n = newName(host)
		r.names[host] = n
		if r.ctx != nil {
			n.begin(r.ctx)
		}
		for i := range n.parts {
			r.queue.at(&n.parts[i], time.Now())
		}
	}
	return n
}

// sweepLocked forgets what is wanted neither by the caller of Want, nor by a service.
func (r *Resolver) sweepLocked() {
	used := map[string]bool{}
	for _, n := range r.names {
		if n.wanted {
			for _, rec := range n.records {
				used[rec.host] = true
			}
		}
	}
	for host, n := range r.names {
		if n.wanted || used[host] {
			continue
		}
		n.end()
		for i := range n.parts {
			r.queue.drop(&n.parts[i])
			r.lanes[fastLane].drop(&n.parts[i])
			r.lanes[slowLane].drop(&n.parts[i])
		}
		delete(r.names, host)
	}
}

// Run looks names up until ctx ends, and returns when its last lookup has.
func (r *Resolver) Run(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	for _, n := range r.names {
		n.begin(ctx)
	}
	r.mu.Unlock()
	defer r.finish()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
		r.mu.Lock()
		r.dispatchLocked()
		if due, any := r.queue.next(); any {
			timer.Reset(time.Until(due))
		} else {
			timer.Stop()
		}
		r.mu.Unlock()
	}
}

// finish waits for the lookups under way. None begins once ctx has ended and the lock was
// had.
func (r *Resolver) finish() {
	r.mu.Lock()
	for _, n := range r.names {
		n.end()
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *Resolver) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wait waits until every name stands for something or is known not to, or until ctx ends.
// The second type of a name gets a short grace after the first.
func (r *Resolver) Wait(ctx context.Context) {
	var grace <-chan time.Time
	for {
		r.mu.Lock()
		usable, whole := r.settledLocked()
		moved := r.moved
		r.mu.Unlock()
		if whole {
			return
		}
		if !usable {
			grace = nil
		} else if grace == nil {
			grace = time.After(gather)
		}
		select {
		case <-moved:
		case <-grace:
			return
		case <-ctx.Done():
			return
		}
	}
}

// settledLocked says whether all names can be used, or are known to have nothing, and
// whether nothing is outstanding at all.
func (r *Resolver) settledLocked() (usable, whole bool) {
	usable, whole = true, true
	for _, n := range r.names {
		complete := n.complete()
		whole = whole && complete
		usable = usable && (complete || n.has())
	}
	return usable, whole
}

// Targets are what a name stands for now, in order.
func (r *Resolver) Targets(host string) []Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[host]
	if n == nil {
		return nil
	}
	if n.service {
		return r.serviceLocked(n)
	}
	return n.targets()
}

// Facts are what is shown of a name.
type Facts struct {
	Host      string
	Addresses int
	Answered  time.Time // when a server last said something that is in use; zero = never
	Stale     bool      // the last lookup failed, and what an earlier one said is in use
}

// Facts returns those of all names that Want has named, and how many lookups ended how.
func (r *Resolver) Facts() (facts []Facts, lookups map[Result]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		if !n.wanted {
			continue
		}
		f := Facts{Host: n.host, Stale: n.stale()}
		if n.service {
			f.Addresses = len(r.serviceLocked(n))
		}
		for i := range n.parts {
			p := &n.parts[i]
			if !n.service {
				f.Addresses += len(p.set.now)
			}
			if p.answered.After(f.Answered) {
				f.Answered = p.answered
			}
		}
		facts = append(facts, f)
	}
	slices.SortFunc(facts, func(a, b Facts) int { return cmp.Compare(a.Host, b.Host) })
	lookups = make(map[Result]uint64, len(Results))
	for _, result := range Results {
		lookups[result] = r.counts[result]
	}
	return facts, lookups
}

// tellLocked has Changed told after a while.
func (r *Resolver) tellLocked() {
	if r.telling {
		return
	}
	r.telling = true
	time.AfterFunc(gather, func() {
		r.mu.Lock()
		r.telling = false
		r.mu.Unlock()
		select {
		case r.changed <- struct{}{}:
		default:
		}
	})
}

// settingsLocked are what holds for a lookup that begins now.
func (r *Resolver) askerLocked(now time.Time) (asker, resolvConf) {
	conf := r.system.configured()
	if len(r.set.Servers) > 0 {
		conf.servers = r.set.Servers
	}
	if len(r.set.Search) > 0 {
		conf.search = nil
		for _, d := range r.set.Search {
			if d != "." {
				conf.search = append(conf.search, d)
			}
		}
	}
	return asker{
		servers: r.quiet.inOrder(conf.servers, now), timeout: cmp.Or(r.set.Timeout, conf.timeout), attempts: cmp.Or(r.set.Attempts, conf.attempts),
		heard: r.heard,
	}, conf
}

func (r *Resolver) heard(server netip.AddrPort, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet.heard(server, silent, time.Now())
}

// candidates are the full names that a host's may stand for, the likeliest first, as libc
// has them: resolv.conf(5), search and ndots.
func (c resolvConf) candidates(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	full := dns.Fqdn(host)
	var all []string
	if strings.Count(host, ".") >= c.ndots {
		all = append(all, full)
	}
	for _, domain := range c.search {
		all = append(all, full+dns.Fqdn(domain))
	}
	if !slices.Contains(all, full) {
		all = append(all, full)
	}
	return slices.DeleteFunc(all, func(name string) bool { _, ok := dns.IsDomainName(name); return !ok || len(name) > 254 })
}
