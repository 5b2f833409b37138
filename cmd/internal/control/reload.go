package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/cmd/internal/discovery"
	"sluice/metrics"
)

// reloads is what became of them. The start counts as the first success.
type reloads struct {
	one sync.Mutex // held during one: the next waits

	mu      sync.Mutex // guards what follows
	results map[string]uint64
	ok      bool
	last    time.Time // success
	text    string    // of the last verdict
	at      time.Time // of that
	ended   bool      // the service drains: none is begun any more
}

func (r *reloads) succeeded(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ok, r.last, r.at = true, now, now
}

func (r *reloads) count(result, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.results == nil {
		r.results = map[string]uint64{}
	}
	r.results[result]++
	r.ok = result == metrics.ReloadSuccess
	r.text, r.at = text, time.Now()
	if r.ok {
		r.last = r.at
	}
}

func (r *reloads) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// show is what metrics tell.
func (r *reloads) show() metrics.Reload {
	r.mu.Lock()
	defer r.mu.Unlock()
	return metrics.Reload{Succeeded: r.ok, LastSuccess: r.last, Results: maps.Clone(r.results), Last: r.text, LastTime: r.at}
}

func isReload(sig os.Signal) bool { return sig == syscall.SIGHUP }

// reload puts the configuration as it is now in force, or with dryRun says what that
// would change. It may be called by any goroutine; one reload runs at a time.
//
// Reading, checking and looking up names is done here, so that the conducting goroutine
// is kept for the change alone.
func (s *service) reload(ctx context.Context, dryRun bool) admin.Verdict {
	s.reloads.one.Lock()
	defer s.reloads.one.Unlock()
	c, sha256, err := s.Read()
	if err != nil {
		if !dryRun {
			s.reloads.count(metrics.ReloadRefused, err.Error())
		}
		return s.verdict(false, err.Error(), nil)
	}
	inForce, _ := s.shown()
	defer s.alsoFollow(c)()
	asked := s.withFiles(c)
	c = config.Keep(inForce.config, asked)
	changes := s.touched(inForce, config.Diff(inForce.config, asked))
	if dryRun {
		return s.verdict(true, told(changes, "would change"), changes)
	}
	if len(changes) > 0 {
		tellDoubts(s.Log, c)
	}
	s.resolver.Configure(dnsSettings(c.DNS))
	defer func() {
		inForce, _ := s.shown()
		s.resolver.Configure(dnsSettings(inForce.config.DNS))
	}()
	defer s.alsoLookUp(ctx, c)()
	err = s.conducted(ctx, func() error {
		if len(changes) == 0 && !s.state.moved() { // but perhaps in comments
			next := *s.state
			next.sha256 = sha256
			s.replace(&next)
			return nil
		}
		c = s.withFiles(c) // they may have changed meanwhile
		if err := errors.Join(Refusals(c)...); err != nil {
			return err
		}
		if err := s.change(c, sha256, s.resolver.known(c)); err != nil {
			return err
		}
		s.Level.Set(level(c.Log))
		return nil
	})
	if err != nil {
		s.reloads.count(metrics.ReloadFailed, err.Error())
		return s.verdict(false, err.Error(), nil)
	}
	s.reloads.count(metrics.ReloadSuccess, told(changes, "changed"))
	s.awaitTurn(ctx)
	return s.verdict(true, told(changes, "changed"), changes)
}

// turnWithin is how long a verdict waits for acceptors to run what is in force by then. A
// commit waits for none of them, and one that turns is there in a few milliseconds.
const turnWithin = 250 * time.Millisecond

// awaitTurn waits long enough that the verdict is mostly true everywhere when it is heard.
func (s *service) awaitTurn(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, turnWithin)
	defer stop()
	inForce, _ := s.shown()
	for slices.ContainsFunc(inForce.seats, func(st *seat) bool {
		return uint64(s.board.Acceptor(st.number).Generation.Load()) < inForce.generation
	}) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// told says how many changes there are.
func told(changes []config.Change, verb string) string {
	restart := 0
	for _, c := range changes {
		if c.Apply == config.Restart {
			restart++
		}
	}
	switch {
	case len(changes) == 0:
		return "nothing to change"
	case restart > 0:
		return fmt.Sprintf("%d %s; %d need a restart and stay as they are", len(changes)-restart, verb, restart)
	}
	return fmt.Sprintf("%d %s", len(changes), verb)
}

// errDraining is what a reload of a service that ends is told.
var errDraining = errors.New("the service drains")

// conducted runs a change on the conducting goroutine, which a blocked acceptor does not
// hold up.
func (s *service) conducted(ctx context.Context, change func() error) error {
	done := make(chan error, 1)
	job := func() {
		if s.draining.Load() {
			done <- errDraining
			return
		}
		done <- change()
	}
	select {
	case s.jobs <- job:
		return <-done
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *service) verdict(ok bool, text string, changes []config.Change) admin.Verdict {
	inForce, _ := s.shown()
	v := admin.Verdict{OK: ok, Text: text, Generation: inForce.generation, SHA256: inForce.sha256}
	for _, c := range changes {
		v.Changes = append(v.Changes, c.String())
	}
	return v
}

// reloadBySignal is a reload that nobody waits for.
func (s *service) reloadBySignal(ctx context.Context) { s.reloadAndLog(ctx, "signal") }

func (s *service) reloadAndLog(ctx context.Context, from string) {
	v := s.reload(ctx, false)
	level := slog.LevelInfo
	if !v.OK {
		level = slog.LevelError
	}
	s.Log.Log(ctx, level, "reload", "from", from, "ok", v.OK, "verdict", v.Text, "generation", v.Generation, "sha256", v.SHA256, "changes", strings.Join(v.Changes, "; "))
}

// watching is the configuration's file, watched or not.
type watching struct {
	on   bool
	stop func()
}

// watchFile reloads when the configuration's file changes, if [reload] watch says so.
func (s *service) watchFile(ctx context.Context) watching {
	w := watching{on: s.state.config.Reload.Watch, stop: func() {}}
	if !w.on || s.Path == "" {
		return w
	}
	ctx, w.stop = context.WithCancel(ctx)
	file := discovery.File{
		Path: s.Path, Digest: s.state.sha256,
		Changed: func() { s.reloadAndLog(ctx, "watched file") },
		Note:    func(text string) { s.Log.Warn(text, "path", s.Path) },
	}
	go file.Watch(ctx)
	return w
}

// touched adds to each change how many sessions it touches now: those of a listener, a
// pool or one of its backends, and else all.
func (s *service) touched(inForce *state, changes []config.Change) []config.Change {
	sessions, all := s.sessionsBy(inForce)
	for i := range changes {
		path := changes[i].Path
		scope, rest, _ := strings.Cut(path, ".")
		name, key, _ := strings.Cut(rest, ".")
		switch {
		case scope != "listener" && scope != "pool":
			changes[i].Touches = all
		case strings.HasPrefix(key, "backends["):
			changes[i].Touches = sessions[path]
		default:
			changes[i].Touches = sessions[scope+"."+name]
		}
	}
	return changes
}

// sessionsBy counts the sessions of each listener, pool and backend, by its path.
func (s *service) sessionsBy(inForce *state) (by map[string]int, all int) {
	by = map[string]int{}
	for _, f := range inForce.fronts {
		n := int(s.sessionsAt(inForce, f.id))
		by["listener."+f.config.Name] += n
		all += n
	}
	for i := range inForce.plan.Pools {
		p := &inForce.plan.Pools[i]
		for _, t := range p.Targets {
			n := int(s.board.Held()[t.ID.Index()].Load())
			by["pool."+p.Name] += n
			by[fmt.Sprintf("pool.%s.backends[%q]", p.Name, t.Backend)] += n
		}
	}
	return by, all
}

func (s *service) sessionsAt(inForce *state, id metrics.ID) (n int64) {
	for _, st := range inForce.seats {
		n += s.board.Listener(st.number, id).Active.Load()
	}
	return n
}

func level(l config.Log) (level slog.Level) {
	_ = level.UnmarshalText([]byte(l.Level)) // config has checked it
	return level
}
