package control

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/discovery"
	"sluice/cmd/internal/host"
	"sluice/metrics"
	"sluice/proxy"
	"sluice/proxy/access"
)

// The kinds of files that a service follows, as metrics name them.
const (
	filePrefixes = "prefixes" // allow_file, deny_file
	fileBackends = "backends" // backends_file
)

func prefixesOf(path string) discovery.FileWanted {
	return discovery.FileWanted{FileKey: discovery.FileKey{Kind: filePrefixes, Path: path}, Parse: func(data []byte) (any, int, error) {
		list, err := access.ParseList(data)
		return &prefixes{list}, len(list), err
	}}
}

func backendsOf(path string) discovery.FileWanted {
	return discovery.FileWanted{FileKey: discovery.FileKey{Kind: fileBackends, Path: path}, Parse: func(data []byte) (any, int, error) {
		list, err := config.ParseBackends(data)
		return list, len(list), err
	}}
}

// follow has the files of these configurations followed, and no others any more.
func (s *service) follow(cs ...config.Config) {
	var wanted []discovery.FileWanted
	for _, c := range cs {
		for _, l := range c.Listeners {
			for _, path := range []string{l.Access.AllowFile, l.Access.DenyFile} {
				if path != "" {
					wanted = append(wanted, prefixesOf(path))
				}
			}
		}
		for _, p := range c.Pools {
			if p.BackendsFile != "" {
				wanted = append(wanted, backendsOf(p.BackendsFile))
			}
		}
	}
	s.files.Want(wanted)
}

// alsoFollow has the files of c followed, too, and read now. done ends that: it has those
// followed that are in force then.
func (s *service) alsoFollow(c config.Config) (done func()) {
	inForce, _ := s.shown()
	s.follow(inForce.config, c)
	s.files.Again()
	return func() {
		inForce, _ := s.shown()
		s.follow(inForce.config)
	}
}

// withFiles is c with what its files of backends say now.
func (s *service) withFiles(c config.Config) config.Config {
	return c.WithFiles(func(path string) []config.Backend {
		list, _ := s.files.Contents(discovery.FileKey{Kind: fileBackends, Path: path}).([]config.Backend)
		return list
	})
}

// filesChanged puts in force what files say now. While a reload is under way, or an
// explanation, it waits for its end.
func (s *service) filesChanged() {
	if !s.reloads.one.TryLock() {
		go func() {
			s.reloads.one.Lock()
			defer s.reloads.one.Unlock()
			s.files.Tell()
		}()
		return
	}
	defer s.reloads.one.Unlock()
	c := s.withFiles(s.state.config)
	if !s.filesDiffer(c) {
		return // a reload has taken them
	}
	s.resolver.follow(c)
	if err := s.change(c, s.state.sha256, s.resolver.known(c)); err != nil {
		s.resolver.follow(s.state.config)
		s.Log.Error("what files say is not in force", "error", err)
		return
	}
	s.Log.Info("what files say is in force", "generation", s.state.generation)
}

// filesDiffer says whether files say something else than is in force; c is what is, with
// what files of backends say now.
func (s *service) filesDiffer(c config.Config) bool {
	return len(config.Diff(s.state.config, c)) > 0 || slices.ContainsFunc(s.state.fronts, func(f *front) bool {
		if f.leaving != nil || !f.config.Access.Limited() {
			return false
		}
		of, err := s.listsOf(f.config.Access)
		return err == nil && s.admission.sets[of] != f.admitted
	})
}

// admission are the access sets of a service: those of listeners with the same lists are one.
type admission struct {
	last uint64
	sets map[lists]*admitted
}

// lists are what an access set is made of. As long as they are the same, so is it.
type lists struct {
	allow, deny         string // the inline ones
	allowFile, denyFile *prefixes
	only                bool
}

// prefixes are the contents of a file.
type prefixes struct{ list []netip.Prefix }

// admitted is an access set and its number.
type admitted struct {
	number uint64
	set    *access.Set
	file   *os.File // by which workers get it; nil in goroutine mode
}

// guard finds the access set of each front that serves. An error leaves everything as it is.
func (s *service) guard(next *state) error {
	for i, f := range next.fronts {
		if f.leaving != nil {
			continue
		}
		made, err := s.admitted(f.config.Access)
		if err != nil {
			return fmt.Errorf("listener %q: %w", f.config.Name, err)
		}
		if f.admitted != made {
			copied := *f
			copied.admitted, next.fronts[i] = made, &copied
		}
	}
	return nil
}

// admitted is the set of an access; nil = every client may connect.
func (s *service) admitted(a config.Access) (*admitted, error) {
	if !a.Limited() {
		return nil, nil
	}
	of, err := s.listsOf(a)
	if err != nil {
		return nil, err
	}
	if made := s.admission.sets[of]; made != nil {
		return made, nil
	}
	made := &admitted{number: s.admission.last + 1, set: of.set(a)}
	if s.Config.Acceptors.Mode == config.ModeProcess {
		if made.file, err = access.File(made.set.Image()); err != nil {
			return nil, err
		}
	}
	s.admission.last++
	if s.admission.sets == nil {
		s.admission.sets = map[lists]*admitted{}
	}
	s.admission.sets[of] = made
	return made, nil
}

// listsOf are the lists of an access, with what its files say now.
func (s *service) listsOf(a config.Access) (lists, error) {
	of := lists{
		allow: strings.Join(a.Allow, " "), deny: strings.Join(a.Deny, " "), only: a.Only(),
		allowFile: s.prefixesIn(a.AllowFile), denyFile: s.prefixesIn(a.DenyFile),
	}
	if a.AllowFile != "" && of.allowFile == nil || a.DenyFile != "" && of.denyFile == nil {
		return of, errors.New("its list of prefixes cannot be had") // it could as config checked it; the log has why
	}
	return of, nil
}

// set makes the set of an access.
func (l lists) set(a config.Access) *access.Set {
	return access.New(l.allowFile.and(a.Allow), l.denyFile.and(a.Deny), l.only)
}

// setOf makes the set of an access that is not in force; nil = every client may connect.
func (s *service) setOf(a config.Access) (*access.Set, error) {
	if !a.Limited() {
		return nil, nil
	}
	of, err := s.listsOf(a)
	if err != nil {
		return nil, err
	}
	return of.set(a), nil
}

func (s *service) prefixesIn(path string) *prefixes {
	p, _ := s.files.Contents(discovery.FileKey{Kind: filePrefixes, Path: path}).(*prefixes)
	return p
}

// and are the prefixes and those of a list that config has checked.
func (p *prefixes) and(list []string) (all []netip.Prefix) {
	if p != nil {
		all = slices.Clone(p.list)
	}
	return append(all, config.Prefixes(list)...)
}

// keep gives back the sets that no front has any more.
func (a *admission) keep(fronts []*front) {
	for of, made := range a.sets {
		if !slices.ContainsFunc(fronts, func(f *front) bool { return f.admitted == made }) {
			delete(a.sets, of)
			made.file.Close() // nil has nothing to close
		}
	}
}

// order is the set as hosts are given it.
func (m *admitted) order() host.Access {
	file := -1
	if m.file != nil {
		file = int(m.file.Fd())
	}
	return host.Access{Set: m.set, File: file}
}

// planGuard is what acceptors do with connections to a front before they are sessions.
func planGuard(f *front) proxy.Guard {
	l := f.config.Limit
	g := proxy.Guard{
		Refuse: refusals[f.config.Access.Refuse], Rate: planRate(l.Rate, l.Burst),
		Source: access.Limit{IPv4: l.SourceIPv4, IPv6: l.SourceIPv6, Sessions: l.SourceSessions, Rate: planRate(l.SourceRate, l.SourceBurst)},
	}
	if l.Over == config.OverDelay {
		g.Delay = maxDelay
	}
	if f.admitted != nil {
		g.Access = f.admitted.number
	}
	return g
}

// forgetRates lets listeners whose rate has changed begin anew.
func (s *service) forgetRates(next, before *state) {
	for _, f := range next.fronts {
		was := before.find(f.id)
		if l := f.config.Limit; was == nil || was.config.Limit.Rate != l.Rate || was.config.Limit.Burst != l.Burst {
			s.board.Rates()[f.id.Index()].Store(0)
		}
		s.forgetSpent(f, was)
	}
}

// maxDelay is how long a session that comes too quickly may be delayed: most clients give up
// after that.
const maxDelay = 10 * time.Second

func planRate(rate, burst int) access.Rate {
	if rate == 0 {
		return access.Rate{}
	}
	return access.Rate{Every: time.Second / time.Duration(rate), Burst: cmp.Or(burst, rate)}
}

var refusals = map[string]proxy.Refuse{
	config.RefuseRST: proxy.RefuseRST, config.RefuseFIN: proxy.RefuseFIN, config.RefuseSilent: proxy.RefuseSilent,
}

// showFiles is what metrics tell.
func (s *service) showFiles() (all []metrics.File) {
	for _, f := range s.files.Facts() {
		all = append(all, metrics.File{Kind: f.Kind, Path: f.Path, OK: f.OK, Entries: f.Entries, Faults: f.Faults, Fault: f.Fault})
	}
	return all
}
