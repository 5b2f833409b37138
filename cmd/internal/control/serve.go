// Package control is the control plane: ordinary Go that may sleep and allocate. It
// starts a service, keeps it true to its configuration, changes it while it runs, and
// ends it.
//
//	           ┌─ reload (signal, socket, watched file) ─► Config ─┐
//	Serve ─────┤─ discovery ────────────────────────► addresses ───┤
//	           │                                                   ▼
//	           │       one goroutine (conduct): change: the next state is prepared whole, then committed
//	           │                    │                              │
//	           │                    ├► fronts: listener.Group,     ├► ledger: numbers of things ─► metrics.Board
//	           │                    │  steering                    ▼
//	           │                    └──────────────────► Plan + descriptors ─► host: acceptors (threads, or workers)
//	           │
//	           ├─ health: checks, operators ─► weights on the Board
//	           ├─ movement: sessions that end at a pace ─► host.Survey
//	           ├─ watchdog: which was given something and does not turn? ─► host.Rescue
//	           ├─ departures: what left the configuration, acceptors that leave, and at the end all
//	           └─ admin HTTP ◄─ Snapshot ◄─ Board, queues, host
//	                         ◄─ explain ◄── View: what is in force, or what a file would put in force (explain.go)
//	                         ◄─ sessions ◄─ movement, access log
//
// It owns every listening socket: acceptors are given descriptors, never accept by
// their own leave, and close none.
//
// Reading order: serve.go, state.go, change.go, departure.go, reload.go.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/cmd/internal/discovery"
	"sluice/cmd/internal/health"
	"sluice/cmd/internal/host"
	"sluice/cmd/internal/logring"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// Options is what Serve is given.
type Options struct {
	Config  config.Config
	SHA256  string                                           // of the file, the first 12 hex digits
	Path    string                                           // of the configuration file; "" = from flags
	Read    func() (config.Config, string, error)            // reads the configuration again, for a reload
	ReadAt  func(path string) (config.Config, string, error) // reads another file in its place; nil = that makes no sense
	Version string
	Log     *slog.Logger // must not block
	Level   *slog.LevelVar
	Lost    func() uint64           // lines that the log has lost
	Stdout  io.Writer               // for the access log; nil = nowhere
	Signals chan os.Signal          // HUP reloads, USR1 opens the access log anew; of the others the first drains (after drain_delay), the second ends at once; the verb drain sends them here, too
	Started func(Addresses, Finder) // called once the service is live; may be nil
}

// Addresses are where a service can be reached, with the ports that were chosen.
type Addresses struct {
	Listeners map[string]string
	Admin     string // "" = off
	Socket    string // the same
}

// Finder tells which acceptor holds the session that reaches its backend from a
// source address.
type Finder func(source netip.AddrPort) (acceptor int, ok bool)

// ErrCut is returned when sessions were still running at the end of drain_timeout.
var ErrCut = errors.New("sessions were cut at the end of the drain timeout")

// service is one running Serve. What follows state belongs to the conducting goroutine.
type service struct {
	Options
	board    *metrics.Board
	journal  *journal.Journal
	access   *accesslog.Log
	records  recording
	window   metrics.Window
	history  metrics.History
	host     host.Host
	health   *health.Keeper
	watchdog *watchdog
	movement *movement
	admin    *admin.Server
	support  func() steering.Support
	nofile   uint64
	started  time.Time
	ready    atomic.Bool
	draining atomic.Bool
	leaving  atomic.Bool // the verb drain was asked for
	reloads  reloads
	jobs     chan func()
	endings  chan int // seats whose acceptor has ended

	mu    sync.Mutex // held while state is replaced or sockets are closed, and to read them elsewhere
	state *state

	ledger    *ledger
	fronts    uint64  // how many there were
	retiring  seating // out of the Plan; their acceptors may still run
	gone      []*front
	resolver  *resolver
	files     *discovery.Files
	admission admission
	quota     time.Time // when the CPU quota was looked at last
	hurried   bool      // a second signal came: nothing is waited for any more
}

// Serve runs a service until a signal has ended it. It returns nil after a clean
// drain, ErrCut after one that had to cut sessions, and ErrStranded if it ended by itself.
func Serve(o Options) error {
	s := &service{
		Options: o, started: time.Now(), state: &state{}, ledger: newLedger(), support: sync.OnceValue(steering.Probe),
		jobs: make(chan func()), endings: make(chan int, metrics.MaxAcceptors),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Everything that can fail comes first: a start that fails has taken no connection.
	var err error
	if s.nofile, err = raiseNoFile(); err != nil {
		return err
	}
	if s.board, err = metrics.NewBoard(); err != nil {
		return err
	}
	defer s.board.Close()
	if s.journal, err = journal.New(); err != nil {
		return err
	}
	defer s.journal.Close()
	if err := s.openAccessLog(); err != nil {
		return err
	}
	defer s.access.Close() // after the acceptors
	notices := make(chan proxy.Notice, 64)
	defer close(notices)
	go logNotices(o.Log, notices)
	s.host = host.New(host.Options{
		Mode: o.Config.Acceptors.Mode, Log: o.Log, Board: s.board, Journal: s.journal, Notices: notices,
		Lost: s.access.WorkerDied, Gone: func(seat int) { s.endings <- seat },
	})
	defer s.closeAll()
	s.health = health.New(health.Options{Log: slog.New(logring.Limit(o.Log.Handler(), "pool", "backend", "address")), Weights: s.board.Weights(), Weighed: s.board.Weighed(), Failing: s.board.Failing(), Strikes: s.board.Strikes(), Panics: s.board.Panics(), Cut: func(pool string) { s.movement.cutDown(pool) }, Run: s.host.Run,
		AtATime: max(16, int(s.nofile/16))}) // sessions must have most of the descriptors
	defer s.health.Close()
	if s.watchdog, err = newWatchdog(o.Log, s.board, s.host.Rescue); err != nil {
		return err
	}
	defer s.watchdog.close()
	s.movement = newMovement(s)
	defer s.movement.Close()
	endpoints, err := s.openAdmin()
	if err != nil {
		return err
	}
	defer endpoints.close()
	tellDoubts(o.Log, o.Config)
	s.resolver = newResolver(ctx, o.Config.DNS, o.Log)
	defer s.resolver.stop()
	s.resolver.follow(o.Config)
	s.resolver.await(ctx)

	s.files = discovery.NewFiles(ctx, o.Log)
	defer func() { cancel(); s.files.Wait() }()
	s.follow(o.Config)

	s.window.Sample(s.board, nil, nil, s.started) // so that it has all accepts, from the first on

	// The service is live after this call: the kernel completes handshakes.
	if err := errors.Join(Refusals(o.Config)...); err != nil {
		return err
	}
	if err := s.change(o.Config, o.SHA256, s.resolver.known(o.Config)); err != nil {
		return err
	}
	s.reloads.succeeded(time.Now())
	go s.watchdog.run()
	s.health.Start()
	s.awaitLoops()
	s.ready.Store(true)
	endpoints.serve(s)
	s.announce(endpoints)
	stranded := s.conduct(ctx)
	if err := s.drain(); err != nil && stranded == nil {
		return err
	}
	return stranded
}

// loopsWithin bounds the wait for the first turns: a machine may be so busy that one of
// many loops comes late, and the others serve already.
const loopsWithin = time.Second

// awaitLoops waits until every acceptor runs the first Plan: a service that calls itself
// ready serves.
func (s *service) awaitLoops() {
	for end := time.Now().Add(loopsWithin); s.reached() < s.state.generation && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// sampleEvery is how often a live service is looked at: the window of accepts and the
// history are fed, what nothing holds any more is forgotten. A look costs about 1 ms, most
// of it the Go runtime's for being woken, and is nearly all that a service at rest spends.
const sampleEvery = 5 * time.Second

// conduct looks after a live service until the first signal that ends it, or until
// nothing can reach it. It is the one goroutine that changes the service.
func (s *service) conduct(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.sample(time.Now())
	sample := time.NewTicker(sampleEvery)
	defer sample.Stop()
	watching := s.watchFile(ctx)
	defer func() { watching.stop() }()
	stranded, stop := watchNamespace(s.Log)
	defer stop()
	var delayed <-chan time.Time // the end of drain_delay; nil = no end was asked for yet
	for {
		var step <-chan time.Time
		if len(s.state.departures()) > 0 || len(s.gone) > 0 {
			step = time.After(departStep)
		}
		select {
		case sig := <-s.Signals:
			if isReload(sig) {
				go s.reloadBySignal(ctx)
				continue
			}
			if isReopen(sig) {
				go s.reopenAccessLog()
				continue
			}
			if delay := s.state.config.Limits.DrainDelay; delay > 0 && delayed == nil {
				delayed = s.delayDrain(sig, delay)
				continue
			}
			s.hurried = delayed != nil // it is the second one
			s.Log.Info("draining", "signal", fmt.Sprint(sig), "timeout", s.state.config.Limits.DrainTimeout.String())
			return nil
		case <-delayed:
			s.Log.Info("draining", "timeout", s.state.config.Limits.DrainTimeout.String())
			return nil
		case <-stranded:
			s.Log.Error("ending: the network namespace has lost its interfaces, and nobody reaches it; in a container, the one that owns the namespace has ended or was restarted")
			s.hurried = true // all peers are out of reach
			return ErrStranded
		case now := <-sample.C:
			s.sample(now)
			s.forget()
			s.followQuota(now)
			s.movement.look()
		case now := <-step:
			s.depart(now)
			s.forget()
		case seat := <-s.endings:
			s.retire(seat)
		case <-s.resolver.Changed():
			s.addressesChanged()
		case <-s.files.Changed():
			s.filesChanged()
		case job := <-s.jobs:
			job()
			if watching.on != s.state.config.Reload.Watch {
				watching.stop()
				watching = s.watchFile(ctx)
			}
		}
	}
}

func (s *service) sample(now time.Time) {
	var ids []metrics.ID
	for _, f := range s.state.fronts {
		ids = append(ids, f.id)
	}
	s.window.Sample(s.board, ids, s.state.seats.numbers(), now)
	s.keepHistory(now)
	s.forgivePicks()
}

// forgivePicks takes back, for acceptors that are parked, picks that nothing came of: a
// handshake that never ends wakes no acceptor, and would make them look loaded for good. An
// acceptor that turns does so by itself.
func (s *service) forgivePicks() {
	for _, f := range s.state.fronts {
		for _, st := range s.state.seats {
			if s.board.Acceptor(st.number).Parked.Load() != 0 {
				f.steered.forgive(st.number)
			}
		}
	}
}

// quotaEvery is how often the CPU quota is looked at where the number of acceptors goes
// by it.
const quotaEvery = 10 * time.Second

// followQuota brings the number of acceptors in line with a quota that has changed.
func (s *service) followQuota(now time.Time) {
	c := s.state.config
	if now.Sub(s.quota) < quotaEvery || c.Acceptors.Count != 0 {
		return
	}
	s.quota = now
	if n := c.Acceptors.Number(); n != len(s.state.seats.serving()) {
		s.Log.Info("the CPUs that may be used have changed", "acceptors", n)
		if err := s.change(c, s.state.sha256, s.state.addresses); err != nil {
			s.Log.Error("the number of acceptors stays as it is", "error", err)
		}
	}
}

// addressesChanged puts a Plan with the addresses of now in force.
func (s *service) addressesChanged() {
	next := *s.state
	next.addresses = s.resolver.known(next.config)
	next.keepAddresses(s.state)
	if next.addresses.equal(s.state.addresses) {
		return // a reload was faster
	}
	if err := s.publish(&next); err != nil {
		s.Log.Error("new addresses of backends are not in force", "error", err)
		return
	}
	s.Log.Info("backend addresses changed", "generation", next.generation)
}

// closeAll gives back what the service still has.
func (s *service) closeAll() {
	s.host.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range append(s.state.fronts, s.gone...) {
		f.close()
	}
	for _, st := range append(s.state.seats, s.retiring...) {
		closeMailbox(st.mail)
	}
	s.state = &state{}
}

func (s *service) announce(e *endpoints) {
	addrs := Addresses{Listeners: map[string]string{}, Admin: e.address(), Socket: e.path}
	for _, f := range s.state.fronts {
		addr := f.group.Address()
		if _, first := addrs.Listeners[f.config.Name]; !first {
			addrs.Listeners[f.config.Name] = addr
		}
		s.Log.Info("listening", "listener", f.config.Name, "address", addr, "pool", f.config.Pool,
			"acceptors", len(s.state.seats), "steering", f.steered.shown().Effective, "backlog", f.group.Backlog())
	}
	s.Log.Info("ready", "version", s.Version, "mode", s.Config.Acceptors.Mode, "admin", addrs.Admin)
	if s.Started != nil {
		s.Started(addrs, s.host.Find)
	}
}
