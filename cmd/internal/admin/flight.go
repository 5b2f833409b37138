package admin

import (
	"context"
	"errors"
	"sync"
)

var (
	errClosed = errors.New("the service has ended")
	errFailed = errors.New("the figures could not be taken")
)

// flight takes something costly once for all that ask at the same time. No caller is
// given what was taken before it asked: those that come while one is taken share the
// next. So at most one is being taken, and a caller waits for two at most.
type flight[T any] struct {
	take   func() (T, error)
	turn   chan struct{} // holds a token while one is taken
	closed bool          // guarded by turn

	mu   sync.Mutex
	next *result[T] // not begun yet; nil = none is waited for
}

// result is what all of one flight get.
type result[T any] struct {
	ready chan struct{} // closed once the rest is there
	value T
	err   error
}

func newFlight[T any](take func() (T, error)) *flight[T] {
	return &flight[T]{take: take, turn: make(chan struct{}, 1)}
}

// get returns a value taken after the call.
func (f *flight[T]) get(ctx context.Context) (T, error) {
	f.mu.Lock()
	r := f.next
	first := r == nil
	if first {
		r = &result[T]{ready: make(chan struct{}), err: errFailed} // unless take says otherwise: it may panic
		f.next = r
	}
	f.mu.Unlock()
	if first {
		f.lead(r) // for the others, too, even if this one's client leaves
	}
	select {
	case <-r.ready:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// lead takes r when the one before it is done.
func (f *flight[T]) lead(r *result[T]) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.mu.Lock()
	f.next = nil // a caller that comes from here on wants a newer one
	f.mu.Unlock()
	defer close(r.ready)
	if f.closed {
		r.err = errClosed
		return
	}
	r.value, r.err = f.take()
}

// close returns when nothing is being taken, and nothing is after it.
func (f *flight[T]) close() {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.closed = true
}
