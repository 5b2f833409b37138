package logring

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// every is how often a notice is repeated at most. A minute is short enough for
	// people who watch the log and bounds a notice to 1,440 lines a day.
	every = time.Minute

	// maxNotices bounds the notices that are remembered: 1,024 of some 500 bytes are
	// half a MiB. More than that share one place, so the lines stay bounded too.
	maxNotices = 1024
)

// Limit passes on the first record of a kind about a thing, and then at most one a
// minute, with the number of those left out as repeated=N. The kind is level and
// message, the thing is the values of the attributes that things names, such as
// "listener" or "backend". Nothing is lost at the end of a burst: its last record
// follows when the minute is over. A timer runs only while that is owed.
//
// It is for notices that the world outside can cause without end. What a person did
// goes to the log unlimited.
func Limit(next slog.Handler, things ...string) slog.Handler {
	l := &limit{things: things, notices: map[string]*notice{}}
	return &limited{limit: l, next: next}
}

// limit is what a Limit and all that are derived from it by With share.
type limit struct {
	things []string

	mu      sync.Mutex // never held while a record is passed on
	notices map[string]*notice
	timer   *time.Timer // nil = nothing is owed
}

// notice is one kind about one thing.
//
//	(unknown) ─first: passed─► quiet ─again within the minute: left out─► owed
//	     ▲                       │ ▲                                       │
//	     └── a minute has passed ┘ └──────── the minute is over: told ─────┘
type notice struct {
	told time.Time // when a record was last passed on
	left int       // records left out since
	last slog.Record
	next slog.Handler // where last goes
}

// due is a record to pass on once the lock is released.
type due struct {
	next   slog.Handler
	record slog.Record
}

// limited is one handler of a limit.
type limited struct {
	*limit
	next  slog.Handler
	thing string // what With has said of the thing
	group bool   // in a group: attributes are no longer what things means
}

func (h *limited) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	d := *h
	d.next, d.thing = h.next.WithAttrs(attrs), h.thing+h.about(attrs)
	return &d
}

func (h *limited) WithGroup(name string) slog.Handler {
	d := *h
	d.next, d.group = h.next.WithGroup(name), h.group || name != ""
	return &d
}

// about is what attrs say of the thing.
func (h *limited) about(attrs []slog.Attr) string {
	var b strings.Builder
	for _, a := range attrs {
		if !h.group && slices.Contains(h.things, a.Key) {
			b.WriteString("\x00" + a.Key + "=" + a.Value.String())
		}
	}
	return b.String()
}

func (h *limited) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	key := r.Level.String() + "\x00" + r.Message + h.thing + h.about(attrs)
	if repeated, pass := h.pass(key, h.next, r); pass {
		return h.next.Handle(ctx, withCount(r, repeated))
	}
	return nil
}

// pass says whether r goes on now, and how many before it did not.
func (l *limit) pass(key string, next slog.Handler, r slog.Record) (repeated int, pass bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	n := l.notices[key]
	if n == nil && len(l.notices) >= maxNotices {
		if l.forget(now); len(l.notices) >= maxNotices {
			key = "" // the place that all others share
			n = l.notices[key]
		}
	}
	switch {
	case n == nil:
		l.notices[key] = &notice{told: now}
		return 0, true
	case now.Sub(n.told) >= every:
		repeated = n.left
		*n = notice{told: now}
		return repeated, true
	}
	n.left++
	n.last, n.next = r.Clone(), next
	if l.timer == nil {
		l.timer = time.AfterFunc(n.told.Add(every).Sub(now), l.settle)
	}
	return 0, false
}

// forget drops what is owed nothing and would pass again anyway.
func (l *limit) forget(now time.Time) {
	for key, n := range l.notices {
		if n.left == 0 && now.Sub(n.told) >= every {
			delete(l.notices, key)
		}
	}
}

// settle passes on what is owed for a minute and, while anything is still owed,
// comes again. Its own goroutine is the timer's.
func (l *limit) settle() {
	for _, d := range l.owed(time.Now()) {
		_ = d.next.Handle(context.Background(), d.record) // a Ring takes it, always
	}
}

func (l *limit) owed(now time.Time) (all []due) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	wait := time.Duration(-1)
	for _, n := range l.notices {
		switch rest := n.told.Add(every).Sub(now); {
		case n.left == 0:
		case rest <= 0:
			// Of those left out the last is passed on now.
			all = append(all, due{n.next, withCount(n.last, n.left-1)})
			*n = notice{told: now}
		case wait < 0 || rest < wait:
			wait = rest
		}
	}
	// In the order of what happened: of "paused" and "goes on" the later one is true.
	slices.SortFunc(all, func(a, b due) int { return a.record.Time.Compare(b.record.Time) })
	l.forget(now)
	if wait >= 0 {
		l.timer = time.AfterFunc(wait, l.settle)
	}
	return all
}

func withCount(r slog.Record, repeated int) slog.Record {
	if repeated == 0 {
		return r
	}
	r = r.Clone()
	r.AddAttrs(slog.Int("repeated", repeated))
	return r
}
