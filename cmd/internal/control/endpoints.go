package control

import (
	"context"
	"fmt"
	"net"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/cmd/internal/config"
	"sluice/cmd/internal/sessions"
)

// endpoints are where the admin endpoint listens.
type endpoints struct {
	tcp, socket net.Listener // nil = off
	path        string       // of the socket
	server      *admin.Server
}

// openAdmin takes the admin endpoint's port and socket.
func (s *service) openAdmin() (e *endpoints, err error) {
	e = &endpoints{}
	if listen := s.Config.Admin.Listen; listen != "" {
		if e.tcp, err = net.Listen("tcp", listen); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
	}
	path := s.Config.Admin.SocketPath()
	if path == "" {
		return e, nil
	}
	switch e.socket, err = admin.ListenSocket(path); {
	case err == nil:
		e.path = path
	case s.Config.Admin.Socket == config.SocketAuto: // it was not asked for
		s.Log.Warn("there is no admin socket, so sluice reload does not reach this service", "error", err)
	default:
		e.close()
		return nil, fmt.Errorf("admin: %w", err)
	}
	return e, nil
}

func (e *endpoints) serve(s *service) {
	desk := &sessions.Desk{Mover: s.movement.Mover, Names: &s.access.Names, Records: s.access, Recording: s.records.steps, Seats: s.placed}
	e.server = admin.New(admin.Options{
		Snapshot: s.snapshot, Log: s.Log, Reload: s.reload, Backend: s.order, LogLevel: s.logLevel, Drain: s.leave,
		Sessions: desk.Find, Trace: desk.Trace, Rebalance: s.rebalance, Explain: s.explain, TokenPlace: s.tokenPlace,
		Kill: func(o admin.KillOrder) admin.Verdict {
			ok, text := desk.Kill(o)
			return s.verdict(ok, text, nil)
		},
		Watched: s.watch, History: s.history.Since, Ended: s.ended, Config: s.configText,
	})
	s.admin = e.server
	if e.tcp != nil {
		go e.server.Serve(e.tcp)
	}
	if e.socket != nil {
		go e.server.ServeSocket(e.socket)
	}
}

// tokenPlace is where the token for verbs over HTTP is now; "" = they are off.
func (s *service) tokenPlace() string {
	inForce, _ := s.shown()
	return inForce.config.Admin.TokenPlace()
}

func (e *endpoints) address() string {
	if e.tcp == nil {
		return ""
	}
	return e.tcp.Addr().String()
}

// close lets scrapes under way end: they read the board, which is closed next.
func (e *endpoints) close() {
	if e.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		e.server.Close(ctx)
		return
	}
	for _, l := range []net.Listener{e.tcp, e.socket} {
		if l != nil {
			l.Close()
		}
	}
}
