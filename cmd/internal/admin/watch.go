package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Bounds of viewers.
const (
	// maxViewers is how many pages may be open and seen at a time: of MaxConns, so that
	// they keep no scraper out.
	maxViewers = 16

	// lookEvery is how often the figures are sent. A look may take a twentieth of the time
	// between two, so a service with very many backends is looked at less often.
	lookEvery = time.Second
	lookShare = 20

	// readWithin is for a viewer to read one look. One that takes longer is dropped, and
	// comes again when it can.
	readWithin = 10 * time.Second

	// behind is how long a viewer has been reading one look before another may have its place.
	behind = time.Second
)

// Ended are sessions that have ended, for the page.
type Ended struct {
	Last     uint64 `json:"last"`     // number of the newest; to be asked with next time
	Missed   uint64 `json:"missed"`   // that were not kept long enough
	Sessions []Text `json:"sessions"` // the oldest first
}

// Text is JSON that is made already.
type Text = json.RawMessage

// watch sends what the page shows to all that have it open, as server-sent events.
//
//	first viewer ─► Watched(true) ─► look ─► one frame, shared by all ─► each viewer, at its own pace:
//	                                  ▲                                   the newest frame, what is new of
//	                                  └── lookEvery, while there is one   the history and of ended sessions
//	last one left ─► Watched(false)
//
// A viewer that reads slowly skips frames: it holds one at a time. Without viewers there
// is no goroutine and no look.
type watch struct {
	o       Options
	figures *figures
	end     context.CancelFunc
	ended   context.Context

	mu      sync.Mutex
	viewers map[*viewer]bool
	looking bool
	frame   []byte // the newest; nil = none was taken yet
	loop    sync.WaitGroup
}

// viewer is one open page.
type viewer struct {
	wake     chan struct{} // a newer frame is there
	conn     *http.ResponseController
	busy     time.Time // since when it reads one; zero = it has read all
	listener string    // of this listener; "" = of all
	history  uint64    // the last tick that it has
	ended    uint64    // the last session that it has
}

func newWatch(o Options, f *figures) *watch {
	w := &watch{o: o, figures: f, viewers: map[*viewer]bool{}}
	w.ended, w.end = context.WithCancel(context.Background())
	return w
}

var errFull = errors.New(strconv.Itoa(maxViewers) + " pages are open already")

// enter adds a viewer. If there are too many, it takes the place of one that is behind.
func (w *watch) enter(v *viewer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended.Err() != nil {
		return errClosed
	}
	if len(w.viewers) >= maxViewers && !w.dropSlowLocked() {
		return errFull
	}
	w.viewers[v] = true
	if w.frame != nil {
		v.wake <- struct{}{}
	}
	if !w.looking {
		w.looking = true
		w.tellLocked(true)
		w.loop.Go(w.look)
	}
	return nil
}

func (w *watch) dropSlowLocked() bool {
	for v := range w.viewers {
		if !v.busy.IsZero() && time.Since(v.busy) > behind {
			_ = v.conn.SetWriteDeadline(time.Now()) // fails only if it has gone
			delete(w.viewers, v)
			return true
		}
	}
	return false
}

func (w *watch) leave(v *viewer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.viewers, v)
}

// look is the goroutine that looks while there are viewers.
func (w *watch) look() {
	for w.more() {
		begin := time.Now()
		s, err := w.figures.snapshots.get(w.ended)
		if err != nil && w.ended.Err() != nil {
			continue
		}
		if err == nil {
			w.publish(event("status", viewOf(&s)))
		}
		select {
		case <-time.After(max(lookEvery, lookShare*time.Since(begin))):
		case <-w.ended.Done():
		}
	}
}

func (w *watch) tellLocked(watched bool) {
	if w.o.Watched != nil {
		w.o.Watched(watched)
	}
}

// more says whether to go on; if not, the next viewer begins anew.
func (w *watch) more() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looking = len(w.viewers) > 0 && w.ended.Err() == nil
	if !w.looking {
		w.frame = nil
		w.tellLocked(false)
	}
	return w.looking
}

func (w *watch) publish(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frame = frame
	for v := range w.viewers {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

// event writes an event of a name, with one line of data.
func event(name string, data any) []byte {
	text, err := json.Marshal(data)
	if err != nil { // it cannot: what is shown are plain figures
		text = []byte("null")
	}
	return bytes.Join([][]byte{[]byte("event: " + name + "\ndata: "), text, []byte("\n\n")}, nil)
}

func (w *watch) serve(rw http.ResponseWriter, r *http.Request) {
	v := &viewer{wake: make(chan struct{}, 1), conn: http.NewResponseController(rw), listener: r.URL.Query().Get("listener")}
	if err := w.enter(v); err != nil {
		rw.Header().Set("Retry-After", "5")
		say(rw, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer w.leave(v)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	for {
		select {
		case <-r.Context().Done():
			return
		case <-w.ended.Done():
			return
		case <-v.wake:
		}
		if !w.send(rw, v) {
			return
		}
	}
}

// send writes the newest frame, and what else is new. It returns false when the viewer has
// gone or is too slow.
func (w *watch) send(rw http.ResponseWriter, v *viewer) bool {
	w.mu.Lock()
	frame, there := w.frame, w.viewers[v]
	v.busy = time.Now()
	if there {
		_ = v.conn.SetWriteDeadline(v.busy.Add(readWithin)) // fails only if it has gone
	}
	w.mu.Unlock()
	if !there {
		return false
	}
	for _, part := range [][]byte{frame, w.historyOf(v), w.endedOf(v)} {
		if _, err := rw.Write(part); err != nil {
			return false
		}
	}
	if v.conn.Flush() != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v.busy = time.Time{}
	return w.viewers[v]
}

func (w *watch) historyOf(v *viewer) []byte {
	if w.o.History == nil {
		return nil
	}
	c := w.o.History(v.listener, v.history)
	if c.Last == v.history && c.Last > 0 {
		return nil
	}
	v.history = c.Last
	return event("history", c)
}

func (w *watch) endedOf(v *viewer) []byte {
	if w.o.Ended == nil {
		return nil
	}
	e := w.o.Ended(v.ended)
	if len(e.Sessions) == 0 {
		return nil
	}
	v.ended = e.Last
	return event("ended", e)
}

// close ends all streams, and returns when no look is taken any more.
func (w *watch) close() {
	w.mu.Lock()
	w.end()
	w.mu.Unlock()
	w.loop.Wait()
}
