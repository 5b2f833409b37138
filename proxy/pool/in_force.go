package pool

import "slices"

// inForce is how weights in force differ from those a table was built with. As a client
// goes by its hash alone, as few go elsewhere as must.
//
//	less    the target takes a place of its own only from the share of clients that its
//	        weight is of the configured one; the others walk on
//	more    what the weights are more is a share of all clients, who do not walk at all
//
// A place and a client decide together, by a hash of both. So the shares are exact: by a
// place that is taken with chance a of its own, the walk goes on as if it had not been there.
type inForce struct {
	anew    changed
	lowered bool
	takesOf []uint32 // by position, counted from the tier's first: of 2^32 clients; valid if lowered
	first   int32
	more    []surplus // targets with more than configured
	total   uint64    // of the weights in force; 0 = none is more
	weighed weighed   // only with a bound on load
}

// surplus is what a weight is more than configured, added to those before it.
type surplus struct {
	at   int32
	upTo uint64
}

// weigh notes what is in force now. It allocates the first time that something differs.
func (f *inForce) weigh(p *Prepared, tier int, s *State) {
	run := p.tiers[tier]
	if p.MaxLoad > 0 {
		f.weighed.gather(p.ascending[tier], s)
	}
	f.first, f.lowered, f.more, f.total = run.first, false, f.more[:0], 0
	most, total, extra := 0.0, uint64(0), uint64(0) // the largest part of its own that a target has
	for at := run.first; at < run.last; at++ {
		now, own := max(s.Weights[p.cells[at]].Load(), 0), p.ownWeight(at)
		total += uint64(now)
		most = max(most, float64(min(now, own))/float64(own))
		if now > own {
			extra += uint64(now - own)
			f.more = append(f.more, surplus{at, extra})
		}
	}
	if extra > 0 {
		f.total = total
	}
	for at := run.first; at < run.last; at++ {
		now, own := s.Weights[p.cells[at]].Load(), p.ownWeight(at)
		f.lowered = f.lowered || now > 0 && float64(min(now, own))/float64(own) < most
	}
	if !f.lowered {
		return
	}
	f.takesOf = slices.Grow(f.takesOf[:0], int(run.last-run.first))
	for at := run.first; at < run.last; at++ {
		now, own := max(s.Weights[p.cells[at]].Load(), 0), p.ownWeight(at)
		part := min(1, float64(min(now, own))/float64(own)/most)
		f.takesOf = append(f.takesOf, uint32(part*(1<<32-1)))
	}
}

func (p *Prepared) ownWeight(at int32) int64 {
	return int64(p.Targets[p.places[at]].Weight) * WeightScale
}

// raised is the target of a client that goes to one because its weight is more than
// configured, or -1.
func (f *inForce) raised(client uint64) int32 {
	if f.total == 0 {
		return -1
	}
	at := mix(client) % f.total
	i, found := slices.BinarySearchFunc(f.more, at, func(s surplus, at uint64) int {
		if s.upTo <= at {
			return -1
		}
		return 1
	})
	if found || i == len(f.more) {
		return -1
	}
	return f.more[i].at
}

// takes says whether a target takes a client at a place of its own.
func (f *inForce) takes(at int32, client uint64, place uint32) bool {
	return !f.lowered || uint32(mix(client+uint64(place+1)*golden)>>32) <= f.takesOf[at-f.first]
}

const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio

// mix is the finalizer of splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom
// Number Generators", OOPSLA 2014): each bit depends on all.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
