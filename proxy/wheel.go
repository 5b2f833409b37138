package proxy

import "time"

// tickLength is how coarse deadlines are: never early, and late by less than two of these and
// a turn of the loop. 50 ms is far below any limit that people set on a TCP session.
const tickLength = 50 * time.Millisecond

// wheelSlots x tickLength = 51 s is one round. A deadline further away is looked at
// once a round and put back, which for 10,000 sessions of ten minutes is 200 looks
// a second.
const wheelSlots = 1024

// wheel is a hashed timer wheel (Varghese and Lauck 1987, scheme 6) over the
// sessions of a slab. Arming and disarming are O(1). A session has one entry, for
// its nearest deadline; activity does not touch the wheel: when the entry comes up,
// the owner looks whether the session moved meanwhile and arms it anew.
type wheel struct {
	slab  *slab
	now   uint32 // the tick that has been expired last
	heads [wheelSlots]int32
	armed int
	due   []int32 // scratch of advance
}

// link is a session's place in the wheel: a doubly linked list per slot.
type link struct {
	next, prev int32 // slab slots; -1 = end
	tick       uint32
	on         bool
}

var unlinked = link{next: -1, prev: -1}

func newWheel(b *slab, now uint32) *wheel {
	w := &wheel{slab: b, now: now}
	for i := range w.heads {
		w.heads[i] = -1
	}
	return w
}

// arm sets the deadline of a session, replacing an earlier one.
func (w *wheel) arm(slot int32, tick uint32) {
	s := w.slab.at(slot)
	if s.timer.on {
		if s.timer.tick == tick {
			return
		}
		w.disarm(slot)
	}
	if tick <= w.now {
		tick = w.now + 1
	}
	head := &w.heads[tick%wheelSlots]
	s.timer = link{next: *head, prev: -1, tick: tick, on: true}
	if *head >= 0 {
		w.slab.at(*head).timer.prev = slot
	}
	*head = slot
	w.armed++
}

func (w *wheel) disarm(slot int32) {
	s := w.slab.at(slot)
	t := s.timer
	if !t.on {
		return
	}
	if t.prev >= 0 {
		w.slab.at(t.prev).timer.next = t.next
	} else {
		w.heads[t.tick%wheelSlots] = t.next
	}
	if t.next >= 0 {
		w.slab.at(t.next).timer.prev = t.prev
	}
	s.timer = unlinked
	w.armed--
}

// advance moves to tick now and calls expired for each session whose deadline has
// come, disarmed. expired may arm, disarm and close any session.
func (w *wheel) advance(now uint32, expired func(slot int32)) {
	from := w.now + 1
	if now-w.now > wheelSlots { // after a long stop: one round reaches every list
		from = now - wheelSlots + 1
	}
	w.now = now
	for tick := from; tick != now+1; tick++ {
		w.due = w.due[:0]
		for slot := w.heads[tick%wheelSlots]; slot >= 0; slot = w.slab.at(slot).timer.next {
			if w.slab.at(slot).timer.tick <= now {
				w.due = append(w.due, slot)
			}
		}
		for _, slot := range w.due {
			// An earlier call may have closed this one or moved its deadline.
			if t := w.slab.at(slot).timer; t.on && t.tick <= now {
				w.disarm(slot)
				expired(slot)
			}
		}
	}
}
