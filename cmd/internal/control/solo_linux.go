package control

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/proxy"
)

// solo is a worker's host: one acceptor, with descriptors of everybody's sockets. It
// closes them once it accepts no more, so that each of the sockets is gone when the
// last process has done so, however long sessions run.
type solo struct {
	*threads
	options proxy.Options
	rescues map[int]bool // of which hung siblings it serves the sockets
	stopped bool
}

func (s *solo) startAccepting() error {
	if s.stopped {
		return nil
	}
	return s.threads.startAccepting()
}

func (s *solo) rescue(_, hung int, on bool) {
	if s.stopped || s.rescues[hung] == on || hung >= s.options.Acceptors {
		return
	}
	s.rescues[hung] = on
	s.threads.rescue(0, hung, on)
}

func (s *solo) stopAccepting() {
	if s.stopped {
		return
	}
	s.stopped = true
	s.threads.stopAccepting()
	for _, g := range s.options.Groups {
		for _, fd := range g.Sockets {
			unix.Close(fd)
		}
	}
}

// drain ends a worker whose supervisor has died: it may not hold the port, and must
// not drop what runs.
func (s *solo) drain(timeout time.Duration) {
	d := drainage{
		host: s, timeout: timeout, log: slog.New(slog.DiscardHandler),
		close: func() {}, // stopAccepting has done it
		sessions: func() (n int64) {
			for series, c := range s.options.Board.Acceptors() {
				if series.Acceptor == s.options.ID {
					n += c.Sessions.Load()
				}
			}
			return n
		},
		accepted: func() (n uint64) {
			for series, c := range s.options.Board.Listeners() {
				if series.Acceptor == s.options.ID {
					n += c.Accepted.Load()
				}
			}
			return n
		},
	}
	for _, g := range s.options.Groups {
		if s.stopped {
			break
		}
		if own, err := listener.Adopt(g.Sockets[s.options.ID : s.options.ID+1]); err == nil {
			d.groups = append(d.groups, own)
		}
	}
	d.run()
}
