package control

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/listener/steering"
	"sluice/metrics"
)

// steered is what steers to one group's sockets: the rows of its acceptors, and a
// program where one can be had.
type steered struct {
	rows    *steering.Rows
	shared  bool
	info    atomic.Pointer[metrics.Steering] // nil before attach; snapshots read it
	program *steering.Steering               // nil before attach
	aside   *steering.Aside                  // while the group's other processes get all that is new
	beats   map[int]*steering.Seat           // of seats with picks in flight as they were looked at last
}

// choice is which way it will be, decided before acceptors are told. Neither: the kernel's
// hash, or the CPU.
type choice struct {
	picked  bool // by a BPF program
	handOff bool // by the acceptors themselves
}

// choose tries first what can be had.
// A unix socket has one queue for all: the acceptor that wakes first accepts, and hands
// on what others should have.
func choose(a config.Acceptors, f *front, seats int, support func() steering.Support) (c choice) {
	if f.isUnix() {
		return choice{handOff: seats > 1}
	}
	switch a.Steering {
	case config.SteeringCPU, config.SteeringHash:
		return c
	}
	if seats < 2 {
		return c
	}
	c.picked = f.takesPrograms() && support().BPF == nil
	c.handOff = !c.picked
	return c
}

// takesPrograms says whether a program may choose among the front's sockets: see
// steering.Attach.
func (f *front) takesPrograms() bool { return !f.config.Share && !f.config.MPTCP && !f.isUnix() }

// foreseen is what attach shows as effective, if nothing fails.
func (c choice) foreseen(a config.Acceptors, f *front, support func() steering.Support) string {
	switch {
	case f.isUnix():
		return metrics.SteeredShared
	case c.handOff:
		return metrics.SteeredHandOff
	case c.picked && a.Steering == config.SteeringAuto:
		return steering.Least.String()
	case c.picked, a.Steering == config.SteeringCPU && f.takesPrograms() && support().CPU == nil:
		return a.Steering
	}
	return steering.Hash.String()
}

// attach begins to steer to the seats as was chosen, in place of what steered before. The
// group must be listening.
func (t *steered) attach(f *front, seats []int, a config.Acceptors) (reason string) {
	policy, _ := steering.ParsePolicy(a.Steering) // config has checked it
	alone := len(seats) < 2 && policy != steering.CPU && policy != steering.Hash
	if alone {
		policy = steering.Hash
	}
	if t.program != nil {
		_ = t.program.Close()
	}
	sockets := map[int]int{}
	for _, seat := range seats {
		sockets[seat] = f.group.FD(seat)
	}
	t.program = steering.Attach(steering.Options{
		Sockets: sockets, Order: f.group.Order, Rows: t.rows, Policy: policy, Shared: f.config.Share, First: int(f.id.Index()),
	})
	t.shared = f.config.Share
	info := t.program.Info()
	shown := &metrics.Steering{Requested: a.Steering, Effective: info.Effective.String(), Reason: reasonWord(info, f.config)}
	defer t.info.Store(shown)
	if f.choice.handOff {
		shown.Effective = metrics.SteeredHandOff
	}
	if f.isUnix() {
		shown.Effective, shown.Reason = metrics.SteeredShared, reasonUnix
		if a.Steering == config.SteeringAuto {
			return "" // nothing else was asked for
		}
		return "a unix socket has one queue, which all acceptors take from"
	}
	if alone {
		shown.Reason = reasonAlone
		return "there is one acceptor, and so nothing to choose"
	}
	return info.Reason
}

// shown is what is in force, for those that ask.
func (t *steered) shown() metrics.Steering {
	if info := t.info.Load(); info != nil {
		return *info
	}
	return metrics.Steering{}
}

// The words for why, as metrics have them: a unix socket, a listener of one acceptor.
const (
	reasonUnix  = "unix_socket"
	reasonAlone = "one_acceptor"
)

// reasonWord says in a word, for a metric label, why the policy is not what was asked
// for. The log has the sentence.
func reasonWord(i steering.Info, l config.Listener) string {
	switch {
	case i.Reason == "":
		return ""
	case l.Share:
		return "group_is_shared"
	case l.MPTCP:
		return "mptcp"
	case errors.Is(i.Err, steering.ErrNotSupported):
		return "not_supported"
	case errors.Is(i.Err, unix.EPERM), errors.Is(i.Err, unix.EACCES):
		return "not_permitted"
	}
	return "failed"
}

// forgive looks at a seat's picks in flight. What is still there at the next look, some
// seconds later, will not come.
func (t *steered) forgive(seat int) {
	if t.rows.InFlight(seat) <= 0 {
		delete(t.beats, seat)
		return
	}
	if t.beats[seat] == nil {
		if t.beats == nil {
			t.beats = map[int]*steering.Seat{}
		}
		t.beats[seat] = t.rows.Seat(seat)
	}
	t.beats[seat].Beat(metrics.Monotonic(), true)
}

func (t *steered) detach() {
	if t.aside != nil {
		_ = t.aside.End()
		t.aside = nil
	}
	if t.program != nil && !t.shared {
		_ = t.program.Close()
	}
	t.program = nil
}

func (t *steered) close() {
	t.detach()
	_ = t.rows.Close()
}
