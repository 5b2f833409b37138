package control

import (
	"container/heap"
	"fmt"

	"sluice/metrics"
)

// ids mints the numbers of one kind of thing: listeners, pools, or targets. A number
// is the lowest that is free, so that numbers stay close together however many things
// come and go, and it is free again only once no Plan and no session holds it.
//
//	        mint                 drop                       free
//	(new) ───────► named ───────────────► dropped ────────────────► (free, next generation)
//	                 ▲        mint again     │      no Plan, no session
//	                 └───────────────────────┘
type ids[K comparable] struct {
	kind        string
	limit       uint32
	named       map[K]metrics.ID
	dropped     map[K]dropped
	free        lowest
	generations []uint64 // by number: of its last use
}

// dropped is a name that no Plan from this generation on has.
type dropped struct {
	id         metrics.ID
	generation uint64
}

func newIDs[K comparable](kind string, limit uint32) *ids[K] {
	return &ids[K]{kind: kind, limit: limit, named: map[K]metrics.ID{}, dropped: map[K]dropped{}}
}

// mint returns the number of a name. isNew says that it begins: its cells must be opened.
func (m *ids[K]) mint(name K) (id metrics.ID, isNew bool, err error) {
	if id, ok := m.named[name]; ok {
		return id, false, nil
	}
	if d, ok := m.dropped[name]; ok { // it comes back before it was forgotten
		delete(m.dropped, name)
		m.named[name] = d.id
		return d.id, false, nil
	}
	var index uint32
	switch {
	case len(m.free) > 0:
		index = heap.Pop(&m.free).(uint32)
	case uint32(len(m.generations)) < m.limit:
		index = uint32(len(m.generations))
		m.generations = append(m.generations, 0)
	default:
		return 0, false, fmt.Errorf("there can be %d %s at a time, those that sessions still hold included", m.limit, m.kind)
	}
	m.generations[index]++
	id = metrics.NewID(index, m.generations[index])
	m.named[name] = id
	return id, true, nil
}

// drop takes a name out of the Plans from generation on.
func (m *ids[K]) drop(name K, generation uint64) {
	if id, ok := m.named[name]; ok {
		delete(m.named, name)
		m.dropped[name] = dropped{id, generation}
	}
}

// forget frees what was dropped, where every acceptor runs a Plan at least as new as
// reached and held says that no session has it, and returns that.
func (m *ids[K]) forget(reached uint64, held func(metrics.ID) bool) (freed map[K]metrics.ID) {
	freed = map[K]metrics.ID{}
	for name, d := range m.dropped {
		if d.generation <= reached && !held(d.id) {
			delete(m.dropped, name)
			heap.Push(&m.free, d.id.Index())
			freed[name] = d.id
		}
	}
	return freed
}

// lowest is a heap of free numbers.
type lowest []uint32

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i] < h[j] }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(x any)        { *h = append(*h, x.(uint32)) }
func (h *lowest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
