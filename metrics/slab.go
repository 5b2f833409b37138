package metrics

// slab hands out memory, which it allocates in pieces.
type slab[T any] struct{ free []T }

// slabSize is how many at least: few allocations, and little that stays unused in a
// snapshot of a small service.
const slabSize = 128

func (s *slab[T]) some(n int) []T {
	if n > len(s.free) {
		s.free = make([]T, max(n, slabSize))
	}
	all := s.free[:n:n]
	s.free = s.free[n:]
	return all
}
