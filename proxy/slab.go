package proxy

// chunkSize sessions are allocated at a time: 512 x 128 B = 64 KiB, large enough
// that the allocator gives it pages of its own, small beside the smallest service.
const chunkSize = 512

// slab holds an acceptor's sessions. A slot keeps its place for life, so a slot
// number and a generation name a session safely in an epoll event.
type slab struct {
	chunks [][]session
	free   int32 // head of the free list through nextRun; -1 = none
	used   int
	first  uint32 // generation that slots begin with; any number, see journal.ID
}

func newSlab() slab { return slab{free: -1} }

func (b *slab) at(slot int32) *session {
	return &b.chunks[slot/chunkSize][slot%chunkSize]
}

// get returns a cleared session with its generation moved on.
func (b *slab) get() (int32, *session) {
	if b.free < 0 {
		b.grow()
	}
	slot := b.free
	s := b.at(slot)
	b.free = s.nextRun
	b.used++
	*s = session{gen: (s.gen + 1) & genMask, timer: unlinked, nextRun: -1}
	return slot, s
}

func (b *slab) put(slot int32) {
	s := b.at(slot)
	s.state = stateFree
	s.nextRun = b.free
	b.free = slot
	b.used--
}

func (b *slab) grow() {
	first := int32(len(b.chunks) * chunkSize)
	b.chunks = append(b.chunks, make([]session, chunkSize))
	for i := int32(chunkSize) - 1; i >= 0; i-- {
		s := b.at(first + i)
		s.gen, s.nextRun = b.first, b.free
		b.free = first + i
	}
}

// slots is how many sessions the slab has room for; every slot below it exists.
func (b *slab) slots() int32 { return int32(len(b.chunks) * chunkSize) }
