package accesslog

import (
	"sync"

	"sluice/metrics"
)

// Listener is what a record says about its listener.
type Listener struct {
	Name string
	Addr string // where it listens
	Pool string
}

// Route is what a record says about the route that a session took.
type Route struct{ Name, Pool string }

// Target is what a record says about the address that a session was given.
type Target struct {
	Pool, Backend, Addr string
}

// Names tells what IDs stand for. An entry stays until its index has been given to two
// others: what ends now may have begun under an older Plan, and is read a moment later.
// All methods may be called by any goroutine.
type Names struct {
	mu        sync.RWMutex
	listeners named[Listener]
	targets   named[Target]
	routes    named[Route]
}

// named holds by index the latest thing and the one before it.
type named[T any] [][2]entryOf[T]

type entryOf[T any] struct {
	id    metrics.ID
	known bool
	value T
}

func (n *named[T]) put(id metrics.ID, value T) {
	for int(id.Index()) >= len(*n) {
		*n = append(*n, [2]entryOf[T]{})
	}
	e := &(*n)[id.Index()]
	if e[0].known && e[0].id != id {
		e[1] = e[0]
	}
	e[0] = entryOf[T]{id, true, value}
}

// get finds what an ID stood for. A Record may know the index alone: then it is the
// latest, see journal.Partial.
func (n named[T]) get(id metrics.ID, indexOnly bool) (value T, ok bool) {
	if int(id.Index()) >= len(n) {
		return value, false
	}
	e := &n[id.Index()]
	switch {
	case e[0].known && (e[0].id == id || indexOnly):
		return e[0].value, true
	case e[1].known && e[1].id == id:
		return e[1].value, true
	}
	return value, false
}

// PutListener names a listener; again when its pool has changed.
func (n *Names) PutListener(id metrics.ID, l Listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners.put(id, l)
}

// HasTarget says whether a target is named already: its name never changes.
func (n *Names) HasTarget(id metrics.ID) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.targets.get(id, false)
	return ok
}

// PutTarget names a target.
func (n *Names) PutTarget(id metrics.ID, t Target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.targets.put(id, t)
}

// PutRoute names a route; again when its pool has changed.
func (n *Names) PutRoute(id metrics.ID, r Route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes.put(id, r)
}
