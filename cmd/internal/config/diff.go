package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Change is one difference between what runs and what is wanted.
type Change struct {
	Path    string     `json:"path"` // listener.web.idle_timeout, listener.api, pool.web.backends["10.0.0.1:8080"]
	Kind    ChangeKind `json:"kind"`
	Old     string     `json:"old,omitempty"` // "" if Kind is Added
	New     string     `json:"new,omitempty"` // "" if Kind is Removed
	Apply   Apply      `json:"apply"`
	Why     string     `json:"why,omitempty"` // of a restart
	Touches int        `json:"touches"`       // sessions that it concerns now; -1 = not known
}

// ChangeKind says what happened to what stands at a Change's Path.
type ChangeKind string

// What can happen to a listener, a pool or a backend; a key is only changed.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// String is a line for people, without its end:
//
//	live     listener.web.idle_timeout: 10m -> 5m, touches 3 sessions
//	restart  acceptors.mode: goroutine -> process (sessions cannot move ...)
func (c Change) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %s: ", c.Apply, c.Path)
	switch c.Kind {
	case Added:
		fmt.Fprintf(&b, "added, %s", c.New)
	case Removed:
		fmt.Fprintf(&b, "removed, was %s", c.Old)
	default:
		fmt.Fprintf(&b, "%s -> %s", c.Old, c.New)
	}
	if c.Why != "" {
		fmt.Fprintf(&b, " (%s)", c.Why)
	}
	switch {
	case c.Touches == 1:
		b.WriteString(", touches 1 session")
	case c.Touches >= 0:
		fmt.Fprintf(&b, ", touches %d sessions", c.Touches)
	}
	return b.String()
}

// Diff says what a reload from old to new changes: what holds for the whole service in
// the order of the options, then listeners, then pools, each in the order of new; what
// was removed stands at the end of its kind. A backend is its address as written. The
// order of listeners, pools and backends means nothing, so it is no change.
func Diff(old, new Config) []Change {
	var d differ
	d.options("", "", scope{c: &old}, scope{c: &new})
	diffTables(&d, "listener", old.Listeners, new.Listeners,
		func(l *Listener) string { return l.Name }, func(l *Listener) scope { return scope{l: l} })
	diffTables(&d, "pool", old.Pools, new.Pools,
		func(p *Pool) string { return p.Name }, func(p *Pool) scope { return scope{p: p} })
	return d.changes
}

// differ gathers Changes.
type differ struct{ changes []Change }

// add notes what takes effect at once: all that comes and goes does.
func (d *differ) add(path string, kind ChangeKind, old, new string) {
	d.changes = append(d.changes, Change{Path: path, Kind: kind, Old: old, New: new, Apply: Live, Touches: -1})
}

// options compares the options whose path is pattern and one key more, or with pattern
// "" all that belong to the whole service. prefix stands in front of the key in Paths.
func (d *differ) options(pattern, prefix string, old, new scope) {
	for _, o := range options {
		key, inside := strings.CutPrefix(o.path, pattern)
		if !inside || strings.Contains(key, "*") {
			continue
		}
		if _, isList := o.field(new).(*[]Backend); isList {
			d.backends(prefix+key, old.p.Backends, new.p.Backends)
			continue
		}
		before, now := plain(o.field(old)), plain(o.field(new))
		if before != now {
			d.changes = append(d.changes, Change{
				Path: prefix + key, Kind: Changed, Old: orEmpty(before), New: orEmpty(now),
				Apply: o.apply.apply, Why: o.apply.why, Touches: -1,
			})
		}
	}
}

// diffTables compares the tables of one kind, by name.
func diffTables[T fmt.Stringer](d *differ, table string, old, new []T, name func(*T) string, in func(*T) scope) {
	before, now := byName(old, name), byName(new, name)
	for i := range new {
		path := pathOf(table, name(&new[i]))
		if was := before[name(&new[i])]; was != nil {
			d.options(table+".*.", path+".", in(was), in(&new[i]))
			if s := in(&new[i]); s.l != nil {
				d.routes(path, in(was).l.Routes, s.l.Routes)
			}
		} else {
			d.add(path, Added, "", new[i].String())
		}
	}
	for i := range old {
		if now[name(&old[i])] == nil {
			d.add(pathOf(table, name(&old[i])), Removed, old[i].String(), "")
		}
	}
}

// routes compares those of one listener.
func (d *differ) routes(listener string, old, new []Route) {
	name := func(r *Route) string { return r.Name }
	before, now := byName(old, name), byName(new, name)
	at := func(r Route) string { return listener + "." + pathOf("route", r.Name) }
	for i, r := range new {
		if was := before[r.Name]; was != nil {
			d.options("listener.*.route.*.", at(r)+".", scope{r: was}, scope{r: &new[i]})
		} else {
			d.add(at(r), Added, "", r.String())
		}
	}
	for _, r := range old {
		if now[r.Name] == nil {
			d.add(at(r), Removed, r.String(), "")
		}
	}
}

// backends compares the lists of one pool.
func (d *differ) backends(path string, old, new []Backend) {
	at := func(b Backend) string { return fmt.Sprintf("%s[%q]", path, b.Address) }
	address := func(b *Backend) string { return b.Address }
	before, now := byName(old, address), byName(new, address)
	for _, b := range new {
		switch was := before[b.Address]; {
		case was == nil:
			d.add(at(b), Added, "", b.role())
		case *was != b:
			d.add(at(b), Changed, was.role(), b.role())
		}
	}
	for _, b := range old {
		if now[b.Address] == nil {
			d.add(at(b), Removed, b.role(), "")
		}
	}
}

// byName finds the elements of a list.
func byName[T any](list []T, name func(*T) string) map[string]*T {
	all := make(map[string]*T, len(list))
	for i := range list {
		all[name(&list[i])] = &list[i]
	}
	return all
}

func orEmpty(text string) string {
	if text == "" || strings.ContainsFunc(text, unquotable) {
		return strconv.Quote(text)
	}
	return text
}

// String is the listener in a few words.
func (l Listener) String() string { return fmt.Sprintf("%s -> pool %s", l.Bind, l.Pool) }

// String is the pool in a few words.
func (p Pool) String() string {
	backends := "backends"
	if len(p.Backends) == 1 {
		backends = "backend"
	}
	return fmt.Sprintf("%s, %d %s", p.Pick, len(p.Backends), backends)
}

// role is what a backend is to its pool, beside its address.
func (b Backend) role() string {
	text := fmt.Sprintf("weight=%d", b.Weight)
	if b.MaxSessions > 0 {
		text += fmt.Sprintf(" max_sessions=%d", b.MaxSessions)
	}
	if b.Backup {
		text += " backup"
	}
	return text
}
