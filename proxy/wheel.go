package proxy

import (
	"math/bits"
	"time"
)

// tickLength is how coarse deadlines are: never early, and late by less than two of these and
// a turn of the loop. 50 ms is far below any limit that people set on a TCP session.
const tickLength = 50 * time.Millisecond

// The levels of a wheel. A slot of level l is 256^l ticks wide: 50 ms, 13 s, 55 minutes and
// 10 days; 256 slots of the last are all ticks there are. A level has room for two slots of
// the one above: the one that is now, and the next. So the next can be moved down, a few
// sessions at a time, before it is now. Heads and bitmaps take 8.5 KiB.
const (
	wheelLevels = 4
	levelBits   = 8
	levelSlots  = 2 << levelBits
	levelWords  = levelSlots / 64
)

// movesPerTick is how many sessions are moved down at a time, unless they are too many to be
// done in time so. Measured with 100,000 in one slot: 159 ticks, the longest of them 0.3 ms,
// where all at once took 13 ms.
const movesPerTick = 512

// wheel is a hierarchical timer wheel (Varghese and Lauck 1987, scheme 7) over the sessions
// of a slab.
//
//	level 0   |now · · · · · · ·|next · · · · · · ·|     a list of sessions per tick
//	level 1   |now|next| · · · · · · | · · · · · · |     per 256 ticks; next is moved to level 0 while now lasts
//	level 2   ...
//
// Arming and disarming are O(1), and so is next. A session has one entry, for its nearest
// deadline; activity does not touch the wheel: when the entry comes up, the owner looks
// whether the session moved meanwhile and arms it anew.
type wheel struct {
	slab     *slab
	now      uint32 // the tick that has been expired last
	armed    int
	heads    [wheelLevels * levelSlots]int32  // by list
	occupied [wheelLevels * levelWords]uint64 // bits: which lists have a session
	due      []int32                          // scratch of advance
}

// link is a session's place in the wheel: a doubly linked list per slot.
type link struct {
	next, prev int32 // slab slots; next -1 = end, prev ^list = the first of that list
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
	w.insert(slot, max(tick, w.now+1))
	w.armed++
}

func (w *wheel) disarm(slot int32) {
	if w.slab.at(slot).timer.on {
		w.remove(slot)
		w.armed--
	}
}

// next is the earliest tick at which advance has work: a deadline, or sessions to be moved
// down. There is none while nothing is armed.
func (w *wheel) next() (tick uint32, ok bool) {
	if w.armed == 0 {
		return 0, false
	}
	tick, ok = w.after(0, w.now)
	for level := uint32(1); level < wheelLevels; level++ {
		shift := level * levelBits
		if block, found := w.after(level, w.now>>shift); found { // moved while the block before it is now
			if begin := max((block-1)<<shift, w.now+1); !ok || begin < tick {
				tick, ok = begin, true
			}
		}
	}
	return tick, ok
}

// advance moves to tick now and calls expired for each session whose deadline has
// come, disarmed. expired may arm, disarm and close any session.
func (w *wheel) advance(now uint32, expired func(slot int32)) {
	before := w.now
	w.now = now
	w.due = w.due[:0]
	for level := range uint32(wheelLevels) {
		w.collect(level, before>>(level*levelBits), now>>(level*levelBits))
	}
	for _, slot := range w.due {
		// An earlier call may have closed this one or moved its deadline.
		if t := w.slab.at(slot).timer; t.on && t.tick <= now {
			w.disarm(slot)
			expired(slot)
		}
	}
	w.moveDown()
}

// collect notes which sessions of a level's blocks after from, up to to, are due. One that
// is not due lay in a block that the loop slept over while it was to be moved down, and is
// moved now.
func (w *wheel) collect(level, from, to uint32) {
	to = min(to, from+levelSlots-1) // after a long stop: one round comes to every list
	for from != to {
		block, ok := w.after(level, from)
		if !ok || block > to {
			return
		}
		for slot := w.heads[listOf(level, block)]; slot >= 0; {
			t := w.slab.at(slot).timer
			if t.tick <= w.now {
				w.due = append(w.due, slot)
			} else {
				w.insert(slot, w.remove(slot))
			}
			slot = t.next
		}
		from = block
	}
}

// moveDown moves sessions of each level's next block, so many that none is left when that
// block comes.
func (w *wheel) moveDown() {
	for level := uint32(1); level < wheelLevels; level++ {
		shift := level * levelBits
		left := 1<<shift - int(w.now&(1<<shift-1)) // ticks, at least 1
		list := listOf(level, w.now>>shift+1)
		for range max(movesPerTick, w.armed/left) {
			slot := w.heads[list]
			if slot < 0 {
				break
			}
			w.insert(slot, w.remove(slot))
		}
	}
}

func listOf(level, block uint32) int32 { return int32(level*levelSlots + block%levelSlots) }

// insert puts a session in front of the list of its tick: on the lowest level that has it.
func (w *wheel) insert(slot int32, tick uint32) {
	level := uint32(0)
	for level < wheelLevels-1 {
		above := (level + 1) * levelBits
		if tick>>above-w.now>>above <= 1 {
			break
		}
		level++
	}
	list := listOf(level, tick>>(level*levelBits))
	head := w.heads[list]
	w.slab.at(slot).timer = link{next: head, prev: ^list, tick: tick, on: true}
	if head >= 0 {
		w.slab.at(head).timer.prev = slot
	}
	w.heads[list] = slot
	w.occupied[list/64] |= 1 << (list % 64)
}

// remove takes a session out of its list, and returns its tick.
func (w *wheel) remove(slot int32) uint32 {
	s := w.slab.at(slot)
	t := s.timer
	if t.prev >= 0 {
		w.slab.at(t.prev).timer.next = t.next
	} else {
		list := ^t.prev
		w.heads[list] = t.next
		if t.next < 0 {
			w.occupied[list/64] &^= 1 << (list % 64)
		}
	}
	if t.next >= 0 {
		w.slab.at(t.next).timer.prev = t.prev
	}
	s.timer = unlinked
	return t.tick
}

// after is the first block of a level after this one whose list has a session. They all lie
// less than a round ahead.
func (w *wheel) after(level, block uint32) (uint32, bool) {
	words := w.occupied[level*levelWords:][:levelWords]
	block++
	at, skip := block%levelSlots/64, block%64
	found := words[at] >> skip << skip
	for range levelWords + 1 { // the first word comes twice: the second time it is its beginning
		if found != 0 {
			return block - skip + uint32(bits.TrailingZeros64(found)), true
		}
		block, at = block+64, (at+1)%levelWords
		found = words[at]
	}
	return 0, false
}
