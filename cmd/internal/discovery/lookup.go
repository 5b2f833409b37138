package discovery

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// lookup looks one part up, and puts it back into the queue. It is a goroutine of its own.
func (r *Resolver) lookup(p *part, l *lane) {
	defer r.running.Done()
	r.mu.Lock()
	n := p.of
	a, conf := r.askerLocked(time.Now())
	candidates := conf.candidates(n.asked())
	r.mu.Unlock()
	got := r.find(p, a, candidates)
	got.addrs = r.rankNew(p, got.addrs)
	r.mu.Lock()
	defer r.mu.Unlock()
	l.running--
	if n.ctx.Err() == nil { // else it was broken off, which says nothing
		if got.byServers {
			r.counts[got.result]++
		}
		r.settleLocked(p, got, candidates)
	}
	r.dispatchLocked()
	r.wakeUp()
}

// finding is how a search ended.
type finding struct {
	answer
	full      string // the candidate that the answer is of; "" = of none
	sure      bool   // servers have said something of every candidate before it
	byServers bool
}

// find goes through what a name may stand for.
//
// The two parts of a host do so at the same time, and the candidate that comes first wins:
// see settleLocked. So a part stops at the candidate at which the other was found, and
// passes over none on the way there: the name may be there for this part. Once servers have
// said that it is not, the part asks for the one that was found alone.
func (r *Resolver) find(p *part, ask asker, candidates []string) finding {
	n := p.of
	if !n.service {
		if addrs := r.system.inHosts(n.host); addrs != nil {
			return finding{answer: fromHosts(addrs, p.qtype)}
		}
	}
	if len(candidates) == 0 {
		return finding{answer: answer{result: Missing, ttl: -1, err: errors.New("no name can be so long")}}
	}
	got := finding{byServers: true}
	known := ""
	if full, through, agreed := r.agreed(p); full != "" && full == through {
		known = full
		got.answer = ask.ask(n.ctx, full, p.qtype)
		if got.result == Found || !got.result.says() || agreed {
			got.full, got.sure = full, true
			return got
		}
	}
	failed := answer{}
	for _, name := range candidates {
		if name == known {
			continue
		}
		next := ask.ask(n.ctx, name, p.qtype)
		switch {
		case next.result == Found:
			return finding{next, name, failed.err == nil, true}
		case next.result == Silent: // so are the servers for the next
			got.answer = next
			return got
		case next.result == Failed:
			failed = next
		case got.result != Empty:
			got.answer = next
		}
		if full, _, agreed := r.agreed(p); agreed && name == full && failed.err == nil {
			got.answer, got.full, got.sure = next, name, true
			return got
		} else if agreed && name == full {
			break // what follows is another host's
		}
	}
	if failed.err != nil { // it may be there
		got.answer = failed
	}
	return got
}

// agreed is the candidate that was found last, the one up to which the part has been
// through them all, and whether the other part of the name is found there.
func (r *Resolver) agreed(p *part) (full, through string, agreed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	other := p.other()
	return p.of.full, p.through, p.of.full != "" && other != nil && other.result == Found
}

// fromHosts is what /etc/hosts says. Where it has a name, no server is asked.
func fromHosts(addrs []netip.Addr, qtype uint16) answer {
	a := answer{result: Empty, ttl: hostsEvery}
	for _, addr := range addrs {
		if addr.Is4() == (qtype == dns.TypeA) {
			a.result, a.addrs = Found, append(a.addrs, ranked{addr: addr})
		}
	}
	return a
}

// rankNew ranks the addresses that a part does not have yet: that takes a socket each.
func (r *Resolver) rankNew(p *part, addrs []ranked) []ranked {
	r.mu.Lock()
	known := make(map[netip.Addr]bool, len(p.set.now))
	for _, a := range p.set.now {
		known[a.addr] = true
	}
	r.mu.Unlock()
	for i, a := range addrs {
		if !known[a.addr] {
			addrs[i] = rank(a.addr)
		}
	}
	return addrs
}

// settleLocked takes an answer.
func (r *Resolver) settleLocked(p *part, got finding, candidates []string) {
	n, now, full := p.of, time.Now(), got.full
	p.through = ""
	if got.sure {
		p.through = full
	}
	if got.result == Found && full != n.full && full != "" {
		other := p.other()
		switch at := slices.Index(candidates, n.full); {
		case other == nil || at < 0 || other.result != Found || slices.Index(candidates, full) < at:
			n.full = full
			if other != nil && other.result == Found && at >= 0 { // it is another host's
				other.set.clear(now)
				other.result = ""
				if other.index >= 0 {
					r.queue.at(other, now)
				}
			}
		default: // the other part is found nearer: this is another host's
			r.queue.at(p, now)
			return
		}
	}
	due, changed := p.take(got.answer, r.set, now)
	if soon := now.Add(max(deniedFor, r.set.TTLMin)); got.result == Found && full != "" && !got.sure && due.After(soon) {
		due = soon // it may be found nearer
	}
	r.queue.at(p, due)
	if n.service {
		for _, rec := range n.records {
			if child := r.nameLocked(rec.host); !child.wanted {
				child.interval = n.interval
			}
		}
		r.sweepLocked()
	}
	if changed {
		r.tellLocked()
	}
	r.noteLocked(n, got.err)
	close(r.moved)
	r.moved = make(chan struct{})
}

// States of a name that are logged when they change.
const (
	resolves = iota
	partly   // one of its types is not answered
	unresolved
)

// noteLocked logs a change of a name's state.
func (r *Resolver) noteLocked(n *name, err error) {
	found, silent := false, false
	for i := range n.parts {
		p := &n.parts[i]
		found = found || p.result == Found
		silent = silent || p.result != "" && !p.result.says()
	}
	state := resolves
	switch {
	case found && silent:
		state = partly
	case !found && !n.complete():
		return
	case !found:
		state = unresolved
	}
	if state == n.state {
		return
	}
	was := n.state
	n.state = state
	kept := 0
	for i := range n.parts {
		kept += len(n.parts[i].set.now)
	}
	kept += len(n.records)
	switch state {
	case resolves:
		r.log.Info("backend name resolves again", "name", n.host)
	case partly:
		if was == unresolved {
			r.log.Info("backend name resolves again, in part", "name", n.host)
			return
		}
		r.log.Warn("one type of a backend name is not answered", "name", n.host, "keeping", kept, "error", err)
	default:
		if err == nil {
			err = errors.New("there is no such name")
			if slices.ContainsFunc(n.parts, func(p part) bool { return p.result == Empty }) {
				err = errors.New("it has no address")
			}
		}
		r.log.Warn("backend name does not resolve", "name", n.host, "keeping", kept, "error", err)
	}
}

// serviceLocked are the targets of a service: the addresses of its hosts, with the port and
// weight of their records. Those of the lowest priority number come first, and all others
// back them up. Weights are shares of 256 where they would be more.
func (r *Resolver) serviceLocked(n *name) (all []Target) {
	largest := uint16(1)
	for _, rec := range n.records {
		largest = max(largest, rec.weight)
	}
	type place struct {
		addr netip.Addr
		port uint16
	}
	has := map[place]bool{}
	for _, rec := range n.records {
		host := r.names[rec.host]
		if host == nil {
			continue
		}
		weight := int(rec.weight)
		if largest > maxWeight {
			weight = weight * maxWeight / int(largest)
		}
		for _, t := range host.targets() {
			if at := (place{t.Addr, rec.port}); !has[at] && rec.port != 0 {
				has[at] = true
				all = append(all, Target{t.Addr, rec.port, max(weight, 1), rec.priority > n.records[0].priority})
			}
		}
	}
	return all
}

// maxWeight is the largest weight of a target.
const maxWeight = 256
