package proxy

// runList is the queue of sessions with something to do, in order of arrival, each
// at most once (session.queued). It is linked through session.nextRun.
type runList struct {
	head, tail int32
	n          int
}

func newRunList() runList { return runList{head: -1, tail: -1} }

func (q *runList) push(b *slab, slot int32) {
	s := b.at(slot)
	if s.queued {
		return
	}
	s.queued, s.nextRun = true, -1
	if q.tail >= 0 {
		b.at(q.tail).nextRun = slot
	} else {
		q.head = slot
	}
	q.tail = slot
	q.n++
}

// pop takes the first; the list must not be empty.
func (q *runList) pop(b *slab) (int32, *session) {
	slot := q.head
	s := b.at(slot)
	q.head = s.nextRun
	if q.head < 0 {
		q.tail = -1
	}
	s.queued, s.nextRun = false, -1
	q.n--
	return slot, s
}
