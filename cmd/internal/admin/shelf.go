package admin

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// shelfHolds is how many copies slow readers may hold. With the one being taken
	// and the one that is awaited that makes four, whatever the number of clients.
	shelfHolds = 2

	// freshFor is how long a copy is good enough for others while the shelf is full,
	// and how long a reader has at least. It is the shortest usual interval of scrapes.
	freshFor = 5 * time.Second
)

// shelf bounds how many large answers exist at once, of which some are read slowly.
//
//	get ─► shelf not full ────────────────────► a fresh copy
//	       full, the newest is young ─────────► that one: a few seconds old
//	       full of old ones ─► cut all that ──► a fresh copy
//	                           read the oldest
//
// So the slowest reader loses, and all others are answered at once.
type shelf[T any] struct {
	flight *flight[*copyOf[T]]

	mu   sync.Mutex
	held []*copyOf[T] // that have readers, oldest first
}

// copyOf is one answer.
type copyOf[T any] struct {
	value   T
	taken   time.Time
	readers map[*http.ResponseController]bool
}

func newShelf[T any](take func() (T, error)) *shelf[T] {
	return &shelf[T]{flight: newFlight(func() (*copyOf[T], error) {
		value, err := take()
		return &copyOf[T]{value: value}, err
	})}
}

// get returns a copy for w, that w's handler must release. It may be cut meanwhile:
// its writes fail then.
func (s *shelf[T]) get(ctx context.Context, w http.ResponseWriter) (value T, release func(), err error) {
	reader := http.NewResponseController(w)
	s.mu.Lock()
	c := s.crowded()
	if c == nil {
		s.mu.Unlock()
		if c, err = s.flight.get(ctx); err != nil {
			return value, nil, err
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if c.readers == nil {
		c.readers, c.taken = map[*http.ResponseController]bool{}, time.Now()
	}
	if len(c.readers) == 0 {
		s.held = append(s.held, c)
	}
	c.readers[reader] = true
	return c.value, func() { s.release(c, reader) }, nil
}

// crowded returns the copy to use if the shelf is full, or nil after it has made room.
func (s *shelf[T]) crowded() *copyOf[T] {
	for len(s.held) >= shelfHolds {
		if newest := s.held[len(s.held)-1]; time.Since(newest.taken) < freshFor {
			return newest
		}
		for reader := range s.held[0].readers {
			_ = reader.SetWriteDeadline(time.Now()) // fails only if it has gone
		}
		s.held = s.held[1:]
	}
	return nil
}

func (s *shelf[T]) release(c *copyOf[T], reader *http.ResponseController) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.readers, reader)
	if i := slices.Index(s.held, c); i >= 0 && len(c.readers) == 0 {
		s.held = slices.Delete(s.held, i, i+1)
	}
}
