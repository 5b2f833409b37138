package control

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// steered is a listener's group with the rows of its acceptors and what steers by them.
type steered struct {
	group   *listener.Group
	rows    *steering.Rows
	shared  bool
	picked  bool // by a BPF program
	handOff bool // by the acceptors themselves
	info    metrics.Steering
	program *steering.Steering // nil before attach
}

// newSteered prepares the steering of a group that is not yet live. What can be had
// is tried first, since acceptors must know before they begin.
func newSteered(c config.Acceptors, shared bool, g *listener.Group, support func() steering.Support) (*steered, error) {
	rows, err := steering.NewRows()
	if err != nil {
		return nil, err
	}
	t := &steered{group: g, rows: rows, shared: shared, info: metrics.Steering{Requested: c.Steering}}
	policy, err := steering.ParsePolicy(c.Steering)
	if err != nil {
		return nil, err
	}
	if policy == steering.CPU || policy == steering.Hash || g.Len() < 2 {
		return t, nil
	}
	t.picked = !shared && support().BPF == nil
	t.handOff = !t.picked
	return t, nil
}

// attach begins to steer. The group must be listening.
func (t *steered) attach(c config.Acceptors) (reason string) {
	policy, _ := steering.ParsePolicy(c.Steering) // newSteered has checked it
	t.program = steering.Attach(steering.Options{
		Sockets: t.forAcceptor().Sockets, Rows: t.rows, Policy: policy, HangAfter: c.HangAfter, Shared: t.shared,
	})
	info := t.program.Info()
	t.info.Effective = info.Effective.String()
	if t.handOff {
		t.info.Effective = effectiveHandOff
	}
	t.info.Reason = reasonWord(info, t.shared, t.group.Len())
	return info.Reason
}

// effectiveHandOff is what metrics call the kernel's hash with hand-off above it.
const effectiveHandOff = "hand_off"

// reasonWord says in a word, for a metric label, why the policy is not what was asked
// for. The log has the sentence.
func reasonWord(i steering.Info, shared bool, sockets int) string {
	switch {
	case i.Reason == "":
		return ""
	case shared:
		return "group_is_shared"
	case sockets < 2:
		return "one_acceptor"
	case errors.Is(i.Err, steering.ErrNotSupported):
		return "not_supported"
	case errors.Is(i.Err, unix.EPERM), errors.Is(i.Err, unix.EACCES):
		return "not_permitted"
	}
	return "failed"
}

func (t *steered) close() {
	if t.program != nil && !t.shared {
		_ = t.program.Close() // the group ends with it
	}
	_ = t.rows.Close()
}

// forAcceptor is what a thread of this process is told of the group. Each has seats
// of its own.
func (t *steered) forAcceptor() proxy.Group {
	fds := make([]int, t.group.Len())
	for i := range fds {
		fds[i] = t.group.FD(i)
	}
	return groupOf(fds, t.rows, t.picked, t.handOff)
}

// groupOf is what an acceptor is told of the group.
func groupOf(sockets []int, rows *steering.Rows, picked, handOff bool) proxy.Group {
	g := proxy.Group{Sockets: sockets, Picked: picked, HandOff: handOff}
	for i := range sockets {
		g.Rows = append(g.Rows, rows.Seat(i))
	}
	return g
}

// newMail makes the sockets by which acceptors pass on connections. A sequenced
// packet keeps a listener's index and its descriptor together.
func newMail(acceptors int) (m proxy.Mail, err error) {
	for range acceptors {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			closeMail(m)
			return proxy.Mail{}, fmt.Errorf("socketpair: %w", err)
		}
		m.Receive = append(m.Receive, fds[0])
		m.Send = append(m.Send, fds[1])
	}
	return m, nil
}

func closeMail(m proxy.Mail) {
	for _, fd := range append(m.Receive, m.Send...) {
		unix.Close(fd)
	}
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the clock of heartbeats.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return ts.Nano()
}
