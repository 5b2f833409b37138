// Package control is the control plane: ordinary Go that may sleep and allocate. It
// starts a service, keeps it true to its configuration, and ends it.
//
//	Config ─► Serve ─► listener.Group per listener ─────────► descriptors ─┐
//	             │  └► metrics.Board ──────────────────────► cells ────────┤
//	             │  └► planOf(resolver) ───────────────────► Plan ─────────┤
//	             │                                                         ▼
//	             │                                     host: acceptors (threads, or worker processes)
//	             ├─ signals ─► drain ─────────────────────────────────────►│
//	             ├─ resolver ─► new Plan ─────────────────────────────────►│
//	             └─ admin HTTP ◄─ Snapshot ◄─ Board, queues, host ◄────────┘
//
// It owns every listening socket: acceptors are given descriptors, never accept by
// their own leave, and close none.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// Options is what Serve is given.
type Options struct {
	Config  config.Config
	Path    string // of the configuration file; "" = from flags
	SHA256  string // of the file, the first 12 hex digits
	Version string
	Log     *slog.Logger
	Signals <-chan os.Signal        // the first drains, the second ends at once
	Started func(Addresses, Finder) // called once the service is live; may be nil
}

// Addresses are where a service can be reached, with the ports that were chosen.
type Addresses struct {
	Listeners map[string]string
	Admin     string // "" = off
}

// Finder tells which acceptor holds the session that reaches its backend from a
// source address.
type Finder func(source netip.AddrPort) (acceptor int, ok bool)

// ErrCut is returned when sessions were still running at the end of drain_timeout.
var ErrCut = errors.New("sessions were cut at the end of the drain timeout")

// service is one running Serve.
type service struct {
	Options
	groups   []*listener.Group // in the order of the Config's listeners
	steered  []*steered        // the same
	mail     proxy.Mail
	watchdog *watchdog
	board    *metrics.Board
	window   metrics.Window
	resolver *resolver
	plan     atomic.Pointer[proxy.Plan]
	host     host
	started  time.Time
	ready    atomic.Bool
	draining atomic.Bool
	reaper   *reaper

	groupsMu sync.Mutex // held while the groups are closed, or read by a scrape
}

// Serve runs a service until a signal has ended it. It returns nil after a clean
// drain and ErrCut after one that had to cut sessions.
func Serve(o Options) error {
	o.Config.Acceptors.Count = config.Auto(o.Config.Acceptors.Number()) // once: the host changes what auto would count
	s := &service{Options: o, started: time.Now(), reaper: newReaper()}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	if os.Getpid() == 1 {
		go s.reaper.reapOrphans()
	}
	// Everything that can fail comes first: a start that fails has taken no connection.
	nofile, err := raiseNoFile()
	if err != nil {
		return err
	}
	defer s.closeGroups()
	if err := s.openGroups(); err != nil {
		return err
	}
	defer s.closeSteering()
	if err := s.prepareSteering(); err != nil {
		return err
	}
	if s.board, err = metrics.NewBoard(); err != nil {
		return err
	}
	defer s.board.Close()
	s.resolver = newResolver(o.Config, o.Log)
	s.resolver.refresh(ctx, s.started)
	s.plan.Store(planOf(o.Config, 1, s.resolver.addrs))
	if err := s.reserveCells(); err != nil {
		return err
	}
	notices := make(chan proxy.Notice, 64)
	defer close(notices)
	go logNotices(o.Log, notices)
	options, err := s.acceptorOptions(notices, nofile)
	if err != nil {
		return err
	}
	if s.host, err = s.newHost(options); err != nil {
		return err
	}
	adminListener, err := s.openAdmin()
	if err != nil {
		return err
	}

	if err := s.host.start(); err != nil {
		return err
	}
	// The service is live from here on: the kernel completes handshakes.
	if err := s.goLive(); err != nil {
		s.host.close()
		return err
	}
	stopWatching := make(chan struct{})
	go s.watchdog.run(stopWatching)
	s.ready.Store(true)
	adminAddr, stopAdmin := s.serveAdmin(adminListener)
	defer stopAdmin()
	s.announce(adminAddr)
	s.attend(ctx)
	close(stopWatching) // acceptors end now, and would look hung
	return s.drain()
}

func (s *service) drain() error {
	s.ready.Store(false)
	s.draining.Store(true)
	d := drainage{
		host: s.host, groups: s.groups, close: s.closeGroups, timeout: s.Config.Limits.DrainTimeout, signals: s.Signals, log: s.Log,
		sessions: func() (n int64) {
			for _, c := range s.board.Acceptors() {
				n += c.Sessions.Load()
			}
			return n
		},
		accepted: func() (n uint64) {
			for _, c := range s.board.Listeners() {
				n += c.Accepted.Load()
			}
			return n
		},
	}
	if !d.run() {
		return ErrCut
	}
	return nil
}

func (s *service) openGroups() error {
	for _, l := range s.Config.Listeners {
		g, err := listener.Open(listener.Options{
			Address: l.Bind, Count: s.Config.Acceptors.Number(), Backlog: l.Backlog,
			IPv6Only: l.IPv6Only, MPTCP: l.MPTCP, Share: l.Share, KeepAlive: l.Keepalive,
		})
		if err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		s.groups = append(s.groups, g)
		for _, note := range g.Notes() {
			s.Log.Warn(note, "listener", l.Name)
		}
	}
	return nil
}

// prepareSteering decides how each group will be steered.
func (s *service) prepareSteering() (err error) {
	support := sync.OnceValue(steering.Probe)
	for i, l := range s.Config.Listeners {
		t, err := newSteered(s.Config.Acceptors, l.Share, s.groups[i], support)
		if err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		s.steered = append(s.steered, t)
	}
	s.mail, err = newMail(s.Config.Acceptors.Number())
	return err
}

func (s *service) closeSteering() {
	for _, t := range s.steered {
		t.close()
	}
	closeMail(s.mail)
}

// goLive listens, steers and accepts.
func (s *service) goLive() error {
	for i, g := range s.groups {
		if err := g.Listen(); err != nil {
			return fmt.Errorf("listener %q: %w", s.Config.Listeners[i].Name, err)
		}
		if reason := s.steered[i].attach(s.Config.Acceptors); reason != "" {
			s.Log.Warn("steering is not what was asked for", "listener", s.Config.Listeners[i].Name,
				"requested", s.Config.Acceptors.Steering, "effective", s.steered[i].info.Effective, "reason", reason)
		}
	}
	var cells []*metrics.AcceptorCells
	for i := range s.Config.Acceptors.Number() {
		c, err := s.board.Acceptor(i)
		if err != nil {
			return err
		}
		cells = append(cells, c)
	}
	s.watchdog = newWatchdog(s.Log, s.host, cells, s.Config.Acceptors.HangAfter)
	return s.host.startAccepting()
}

func (s *service) closeGroups() {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	for _, g := range s.groups {
		g.Stop() // workers hold the sockets, too
		g.Close()
	}
}

// reserveCells gives every series its place on the board, so that all are present
// from the start and workers find them.
func (s *service) reserveCells() error {
	plan := s.plan.Load()
	for i := range s.Config.Acceptors.Number() {
		if _, err := s.board.Acceptor(i); err != nil {
			return err
		}
		for _, l := range plan.Listeners {
			if _, err := s.board.Listener(l.Name, i); err != nil {
				return err
			}
		}
		for _, p := range plan.Pools {
			if _, err := s.board.Pool(p.Name, i); err != nil {
				return err
			}
			for _, b := range p.Backends {
				if _, err := s.board.Backend(p.Name, b.Name, i); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// spareFDs are for the control plane, where it lives in the acceptors' process: a
// service that is full of sessions must still answer /livez and /metrics.
const spareFDs = 32

// acceptorOptions describes every acceptor of the service.
func (s *service) acceptorOptions(notices chan proxy.Notice, nofile uint64) (_ []proxy.Options, err error) {
	n := s.Config.Acceptors.Number()
	options := make([]proxy.Options, n)
	batch := s.Config.Acceptors.Batch() && scheduledAsMost()
	var cpus []int
	if s.Config.Acceptors.PinCPUs {
		if cpus, err = usableCPUs(); err != nil {
			return nil, err
		}
	}
	for i := range options {
		options[i] = proxy.Options{
			ID: i, Acceptors: n, Board: s.board, Plan: s.plan.Load(), Notices: notices,
			// An eighth of the descriptors for pipes, two each: the rest is for sessions.
			MaxPipes: max(int(nofile)/16/n, 4),
			Restore:  listener.Restore, Mail: s.mail, Batch: batch, Beat: s.Config.Acceptors.HangAfter / 4,
		}
		if s.Config.Acceptors.Mode == config.ModeGoroutine {
			options[i].MaxFD = int(nofile) - n - min(spareFDs, int(nofile)/4)
		}
		if len(cpus) > 0 { // with more acceptors than CPUs some share one
			options[i].CPUs = []int{cpus[i%len(cpus)]}
		}
		for _, t := range s.steered {
			options[i].Groups = append(options[i].Groups, t.forAcceptor())
		}
	}
	return options, nil
}

func (s *service) newHost(options []proxy.Options) (host, error) {
	if s.Config.Acceptors.Mode == config.ModeProcess {
		var rows []*steering.Rows
		for _, t := range s.steered {
			rows = append(rows, t.rows)
		}
		return newSupervisor(s.Log, s.board, rows, options, s.Config.Limits.DrainTimeout, s.reaper), nil
	}
	return newThreads(options)
}

// openAdmin takes the admin endpoint's port; it returns nil if that is off.
func (s *service) openAdmin() (net.Listener, error) {
	if s.Config.Admin.Listen == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", s.Config.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return ln, nil
}

func (s *service) serveAdmin(ln net.Listener) (addr string, stop func()) {
	if ln == nil {
		return "", func() {}
	}
	srv := admin.New(s.snapshot, s.Log)
	go srv.Serve(ln)
	return ln.Addr().String(), func() { stopAdmin(srv) }
}

// stopAdmin lets scrapes under way end: they read the board, which is closed next.
func stopAdmin(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		srv.Close()
	}
}

func (s *service) announce(adminAddr string) {
	addrs := Addresses{Listeners: map[string]string{}, Admin: adminAddr}
	for i, l := range s.Config.Listeners {
		addr := s.groups[i].Addr().String()
		addrs.Listeners[l.Name] = addr
		s.Log.Info("listening", "listener", l.Name, "address", addr, "pool", l.Pool,
			"acceptors", s.Config.Acceptors.Number(), "steering", s.steered[i].info.Effective, "backlog", s.groups[i].Backlog())
	}
	s.Log.Info("ready", "version", s.Version, "mode", s.Config.Acceptors.Mode, "admin", adminAddr)
	if s.Started != nil {
		s.Started(addrs, s.host.find)
	}
}

// sampleEvery is how often the window of accepts is fed.
const sampleEvery = time.Second

// attend looks after a live service until the first signal.
func (s *service) attend(ctx context.Context) {
	sample := time.NewTicker(sampleEvery)
	defer sample.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resolved := make(chan addresses)
	go s.resolver.run(ctx, resolved)
	for {
		select {
		case sig := <-s.Signals:
			s.Log.Info("draining", "signal", fmt.Sprint(sig), "timeout", s.Config.Limits.DrainTimeout.String())
			return
		case now := <-sample.C:
			s.window.Sample(s.board, now)
		case addrs := <-resolved:
			s.publish(addrs)
		}
	}
}

// publish makes a new Plan of the addresses known now and puts it in force.
func (s *service) publish(addrs addresses) {
	plan := planOf(s.Config, s.plan.Load().Generation+1, addrs)
	if err := s.host.apply(plan); err != nil {
		s.Log.Error("plan not applied", "generation", plan.Generation, "error", err)
		return
	}
	s.plan.Store(plan)
	s.Log.Info("backend addresses changed", "generation", plan.Generation)
}
