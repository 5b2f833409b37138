package pool

import (
	"cmp"
	"slices"

	"sluice/metrics"
)

// Prepared is a pool as pickers take it: what all acceptors of a process share, and never
// changed.
//
// Pickers know a target by its position: primaries come first, then backups, each tier in
// the order of Pool.Targets. So a pick walks over packed words of its tier only.
type Prepared struct {
	*Pool
	cells  []uint32 // by position: the target's index on the board
	places []int32  // by position: its index in Targets
	byID   []int32  // positions, sorted by ID
	tiers  [2]tier  // primaries and backups
	tables [2]table // by tier; only of a SourceHash

	ascending [2][]uint32 // by tier: its cells in their order on the board; only with MaxLoad

	families [2]*Prepared // the same for clients of one family; only of a Transparent pool

	Limited bool // a target has MaxSessions
}

// tier is a run of positions, from the first to before the last.
type tier struct{ first, last int32 }

const (
	primaries = 0
	backups   = 1
)

// Prepare takes milliseconds for a SourceHash, so it is called outside of loops.
func (p *Pool) Prepare() *Prepared {
	q := p.prepare(func(*Target) bool { return true })
	if p.Transparent {
		for i, client := range oneOfEach {
			q.families[i] = p.prepare(func(t *Target) bool { return p.Reaches(client, t) })
		}
	}
	return q
}

// prepare is Prepare for some of the targets.
func (p *Pool) prepare(has func(*Target) bool) *Prepared {
	q := &Prepared{Pool: p}
	for number, backup := range [2]bool{false, true} {
		q.tiers[number].first = int32(len(q.places))
		for i := range p.Targets {
			if t := &p.Targets[i]; t.Backup == backup && has(t) {
				q.places = append(q.places, int32(i))
				q.cells = append(q.cells, t.ID.Index())
				q.byID = append(q.byID, int32(len(q.byID)))
				q.Limited = q.Limited || t.MaxSessions > 0
			}
		}
		q.tiers[number].last = int32(len(q.places))
	}
	slices.SortFunc(q.byID, func(a, b int32) int { return cmp.Compare(q.id(a), q.id(b)) })
	if p.Pick == SourceHash {
		for i, t := range q.tiers {
			q.tables[i] = newTable(q, t)
			if p.MaxLoad > 0 {
				q.ascending[i] = slices.Sorted(slices.Values(q.cells[t.first:t.last]))
			}
		}
	}
	return q
}

func (p *Prepared) id(at int32) metrics.ID { return p.Targets[p.places[at]].ID }

// at is the position of a target.
func (p *Prepared) at(id metrics.ID) (int32, bool) {
	i, ok := slices.BinarySearchFunc(p.byID, id, func(at int32, id metrics.ID) int { return cmp.Compare(p.id(at), id) })
	if !ok {
		return -1, false
	}
	return p.byID[i], true
}

// both calls found with the positions, here and in old, of each target that is in both and
// in the same tier.
func (p *Prepared) both(old *Prepared, found func(tier int, here, there int32)) {
	i, j := 0, 0
	for i < len(p.byID) && j < len(old.byID) {
		here, there := p.byID[i], old.byID[j]
		switch c := cmp.Compare(p.id(here), old.id(there)); {
		case c < 0:
			i++
		case c > 0:
			j++
		default:
			if t := p.tierOf(here); t == old.tierOf(there) {
				found(t, here, there)
			}
			i, j = i+1, j+1
		}
	}
}

func (p *Prepared) tierOf(at int32) int {
	if at < p.tiers[primaries].last {
		return primaries
	}
	return backups
}

// Same says whether q picks among the same targets in the same way, so that p may stand
// for it. A weight counts for a SourceHash alone: the others take it from the board.
func (p *Prepared) Same(q *Pool) bool {
	return p.Pick == q.Pick && p.MaxLoad == q.MaxLoad && p.Transparent == q.Transparent && slices.EqualFunc(p.Targets, q.Targets, func(a, b Target) bool {
		return a.ID == b.ID && a.Addr == b.Addr && a.Backup == b.Backup && (a.MaxSessions > 0) == (b.MaxSessions > 0) && (a.Weight == b.Weight || p.Pick != SourceHash)
	})
}
