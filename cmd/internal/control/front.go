package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/netns"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// front is an address of a listener that is in the Plan: its sockets, what steers to them, and how
// far it has come. A listener has one for each of its addresses; where an address changes
// there are two for a while, the new one and the old one that leaves.
type front struct {
	id      metrics.ID
	config  config.Listener
	bind    config.Bind     // the one of the listener's addresses that is its
	group   *listener.Group // without sockets once they are closed
	steered *steered
	choice  choice
	leaving *departure // nil = it serves
	goneIn  uint64     // the first Plan without it

	network uint64 // the number of the network namespace that it is of, as Plans have it

	admitted *admitted // who may connect; nil = all clients
}

func (f *front) phase() proxy.Phase {
	if f.leaving == nil {
		return proxy.PhaseServing
	}
	return f.leaving.phase
}

// isUnix says whether it is a unix socket, whose queue all acceptors share.
func (f *front) isUnix() bool {
	_, is := f.bind.UnixPath()
	return is
}

// socketOptions are those that a listener's sockets on one of its addresses are opened with.
func socketOptions(l config.Listener, at config.Bind) listener.Options {
	o := listener.Options{
		Address: at.Address, Backlog: l.Backlog, IPv6Only: at.IPv6Only, MPTCP: l.MPTCP, Share: l.Share, Netns: l.NetnsPath(),
		Freebind: l.Freebind, Buffer: l.Buffer, Keeping: keepingOf(l), Extras: extrasOf(l), Rights: rightsOf(l),
	}
	if _, is := at.UnixPath(); is { // a file is not of a network
		o.Netns = ""
	}
	return o
}

func rightsOf(l config.Listener) listener.Rights {
	return listener.Rights{Mode: l.Mode(), User: l.SocketUser, Group: l.SocketGroup}
}

func keepingOf(l config.Listener) listener.Keeping {
	return listener.Keeping{KeepAlive: l.Keepalive, KeepInterval: l.KeepaliveInterval, KeepCount: l.KeepaliveCount, UserTimeout: l.UserTimeout}
}

// toBackend is what the connections to backends of a listener's sessions are given: what
// its pool says, and the rest as on the client's side.
func toBackend(l config.Listener, p config.Pool) proxy.Tuning {
	k := keepingOf(l)
	if p.Keepalive != config.AsListener {
		k.KeepAlive, k.KeepInterval, k.KeepCount = time.Duration(p.Keepalive), p.KeepaliveInterval, p.KeepaliveCount
	}
	k.UserTimeout = p.UserTimeout.Or(k.UserTimeout)
	k = k.Settled()
	return proxy.Tuning{
		KeepIdle: int(k.KeepAlive / time.Second), KeepInterval: int(k.KeepInterval / time.Second), KeepCount: k.KeepCount,
		UserTimeout: int(k.UserTimeout.Milliseconds()), Buffer: l.Buffer,
	}
}

// keeps says whether the front's sockets serve an address of l, too.
func (f *front) keeps(l config.Listener, at config.Bind) bool {
	return f.leaving == nil && f.config.Name == l.Name && f.config.Share == l.Share && socketOptions(f.config, f.bind).SameSockets(socketOptions(l, at))
}

// openFront opens the sockets of an address of l for the given seats. No client is answered there
// before listen. Groups of this process that may hold the port already are beside it.
func openFront(l config.Listener, at config.Bind, id metrics.ID, seats []int, beside []*listener.Group, log *slog.Logger) (*front, error) {
	o := socketOptions(l, at)
	o.Seats, o.Beside = seats, beside
	g, err := listener.Open(o)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", l.Name, err)
	}
	for _, note := range g.Notes() {
		log.Warn(note, "listener", l.Name)
	}
	rows, err := steering.NewRows()
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return &front{id: id, config: l, bind: at, group: g, network: netns.Number(o.Netns), steered: &steered{rows: rows}}, nil
}

// steer puts the configured steering in force, or what can be had of it.
func (f *front) steer(seats []int, a config.Acceptors, log *slog.Logger) {
	if reason := f.steered.attach(f, seats, a); reason != "" {
		log.Warn("steering is not what was asked for", "listener", f.config.Name,
			"requested", a.Steering, "effective", f.steered.shown().Effective, "reason", reason)
	}
}

// stop ends listening, for workers that hold the sockets too.
func (f *front) stop() {
	f.steered.detach()
	_ = f.group.Stop(f.group.Seats()...)
}

// close gives back all.
func (f *front) close() {
	f.stop()
	_ = f.group.Close()
	f.steered.close()
}

// samePort says whether a group may hold the port of an address to bind to in a network
// namespace, or its path.
func samePort(g *listener.Group, netns, bind string) bool {
	if g.Unix() {
		return g.Address() == bind
	}
	if g.Netns() != netns {
		return false
	}
	_, port, err := net.SplitHostPort(bind)
	return err == nil && port != "0" && port == strconv.Itoa(int(g.Addr().Port()))
}

// waiting is how many connections stand in the accept queues of some seats.
func (f *front) waiting(seats []int) (n int) {
	for _, seat := range seats {
		if q, ok := f.group.Queue(seat); ok {
			n += q.Length
		}
	}
	return n
}

// holdOff lets nothing new come to a front that leaves. Where other processes share the
// port, they get it: a SYN that a quiesced socket dropped would come again only after 1 s.
func (f *front) holdOff(seats []int, log *slog.Logger) {
	f.group.Withdraw()
	if f.config.Share && !f.isUnix() {
		var fds []int
		for _, seat := range f.group.Seats() {
			fds = append(fds, f.group.FD(seat))
		}
		var aside *steering.Aside
		err := netns.Within(f.group.Netns(), func() (err error) {
			aside, err = steering.StepAside(f.group.Addr(), fds)
			return err
		})
		switch {
		case err == nil:
			f.steered.aside = aside
			log.Info("new connections go to others that share the port", "listener", f.config.Name, "sockets", aside.Others())
			return
		case !errors.Is(err, steering.ErrAlone):
			log.Warn("new connections can't be sent to others that share the port: some clients will try again after a second", "listener", f.config.Name, "error", err)
		}
	}
	for _, seat := range seats {
		f.quiesce(seat, log)
	}
}

// quiesce lets no new handshake begin on a seat's socket.
func (f *front) quiesce(seat int, log *slog.Logger) {
	if f.group.FD(seat) < 0 {
		return
	}
	if err := listener.Quiesce(f.group.FD(seat)); err != nil {
		log.Warn("new handshakes can't be held off", "listener", f.config.Name, "error", err)
	}
}

// addSeat opens a further socket, which does not listen before listen.
func (f *front) addSeat(seat int) error {
	f.steered.rows.Reset(seat)
	if err := f.group.Add(seat); err != nil {
		return fmt.Errorf("listener %q: %w", f.config.Name, err)
	}
	return nil
}

// stopSeat ends listening on a seat's socket. The last one ends with the group.
func (f *front) stopSeat(seat int, log *slog.Logger) {
	if f.group.FD(seat) < 0 || f.group.Len() == 1 {
		return
	}
	err := f.group.Stop(seat)
	if err == nil && f.steered.program != nil {
		err = f.steered.program.Removed(seat)
	}
	if err != nil {
		log.Warn("a socket did not end as it should", "listener", f.config.Name, "acceptor", seat, "error", err)
	}
}

// closeSeat closes it.
func (f *front) closeSeat(seat int) {
	if f.group.FD(seat) >= 0 && f.group.Len() > 1 {
		_ = f.group.Remove(seat)
	}
}

// descriptors are the sockets by seat, as acceptors are given them.
func (f *front) descriptors() []int {
	var fds []int
	for _, seat := range f.group.Seats() {
		for len(fds) <= seat {
			fds = append(fds, -1)
		}
		fds[seat] = f.group.FD(seat)
	}
	return fds
}

// listen makes the sockets live that are not yet.
func (f *front) listen() error {
	if err := f.group.Listen(); err != nil {
		return fmt.Errorf("listener %q: %w", f.config.Name, err)
	}
	return nil
}

// serving are the fronts that do not leave.
func serving(fronts []*front) (all []*front) {
	for _, f := range fronts {
		if f.leaving == nil {
			all = append(all, f)
		}
	}
	return all
}
