package discovery

import (
	"container/heap"
	"slices"
	"time"
)

// queue holds the parts that wait for their time, the next first.
type queue []*part

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { p := x.(*part); p.index = len(*q); *q = append(*q, p) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q, last.index = (*q)[:len(*q)-1], -1
	return last
}

// at puts a part into the queue, or moves it there.
func (q *queue) at(p *part, due time.Time) {
	p.due = due
	if p.index < 0 {
		heap.Push(q, p)
	} else {
		heap.Fix(q, p.index)
	}
}

func (q *queue) drop(p *part) {
	if p.index >= 0 {
		heap.Remove(q, p.index)
	}
}

func (q queue) next() (due time.Time, any bool) {
	if len(q) == 0 {
		return due, false
	}
	return q[0].due, true
}

// lane bounds the lookups at a time of one kind.
type lane struct {
	limit, running int
	ready          []*part
}

const (
	fastLane = iota
	slowLane // AAAA, and what failed last
)

func (l *lane) drop(p *part) {
	if i := slices.Index(l.ready, p); i >= 0 {
		l.ready = slices.Delete(l.ready, i, i+1)
	}
}

// laneOf is where a part belongs.
func (r *Resolver) laneOf(p *part) *lane {
	if p != &p.of.parts[0] || p.failures > 0 {
		return &r.lanes[slowLane]
	}
	return &r.lanes[fastLane]
}

// dispatchLocked moves what is due into the lanes and starts what there is room for.
func (r *Resolver) dispatchLocked() {
	if r.ctx == nil || r.ctx.Err() != nil {
		return
	}
	for now := time.Now(); len(r.queue) > 0 && !now.Before(r.queue[0].due); {
		p := heap.Pop(&r.queue).(*part)
		l := r.laneOf(p)
		l.ready = append(l.ready, p)
	}
	for i := range r.lanes {
		l := &r.lanes[i]
		for l.running < l.limit && len(l.ready) > 0 {
			p := l.ready[0]
			l.ready = l.ready[1:]
			l.running++
			r.running.Add(1)
			go r.lookup(p, l)
		}
		if len(l.ready) == 0 {
			l.ready = nil // what it had grown to is not kept
		}
	}
}
