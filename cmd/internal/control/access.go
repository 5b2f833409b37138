package control

import (
	"io"
	"os"
	"syscall"

	"sluice/cmd/internal/accesslog"
	"sluice/cmd/internal/config"
	"sluice/proxy/pool"
)

// openAccessLog makes an access log that is off. The first change says what it is to be.
func (s *service) openAccessLog() (err error) {
	if s.Stdout == nil {
		s.Stdout = io.Discard
	}
	s.access, err = accesslog.New(s.journal, s.Log, s.Stdout, s.Config.Acceptors.Mode == config.ModeProcess)
	return err
}

func accessOptions(l config.Log) accesslog.Options {
	return accesslog.Options{
		Access: l.Access, To: l.AccessTo, Format: l.AccessFormat, Sample: l.AccessSample, Start: l.AccessStart, SkipEmpty: l.AccessSkipEmpty,
	}
}

// nameRecords tells the access log what the numbers in next stand for, before the first
// record can have them.
func (s *service) nameRecords(next *state) {
	for _, f := range next.fronts {
		s.access.Names.PutListener(f.id, accesslog.Listener{Name: f.config.Name, Addr: f.group.Address(), Pool: f.config.Pool})
	}
	for _, f := range next.fronts {
		for _, r := range f.config.Routes {
			s.access.Names.PutRoute(next.routes[routeName{f.config.Name, r.Name}], accesslog.Route{Name: r.Name, Pool: r.Pool})
		}
	}
	for i := range next.plan.Pools {
		p := &next.plan.Pools[i]
		for _, t := range p.Targets {
			if !s.access.Names.HasTarget(t.ID) {
				s.access.Names.PutTarget(t.ID, accesslog.Target{Pool: p.Name, Backend: t.Backend, Addr: pool.AddressText(t.Addr)})
			}
		}
	}
}

func isReopen(sig os.Signal) bool { return sig == syscall.SIGUSR1 }

// reopenAccessLog is for log rotation.
func (s *service) reopenAccessLog() {
	if err := s.access.Reopen(); err != nil {
		s.Log.Error("the access log goes on in its old file", "error", err)
		return
	}
	s.Log.Info("access log opened anew")
}
