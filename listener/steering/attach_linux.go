package steering

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Steering is what was attached to one group. It belongs to one goroutine. A group
// has one at a time: where two are opened on the same address (Options.Beside in
// package listener), they are one to the kernel.
type Steering struct {
	info    Info
	rows    *Rows
	order   func() []int
	first   int
	sockets map[int]int // by seat: those that are steered to
	barred  error       // why nothing may be attached to the group
	program *program    // Least, RoundRobin
}

// Attach steers a group, of one socket or more. Whatever steered it before is taken
// away first, and the kernel's hash chooses meanwhile. Seats that Order names and
// Sockets does not get nothing new. It cannot fail: when the policy asked for is not
// to be had, Hash is in force and Info says why.
//
// To change the policy of a live group, Close and Attach: no connection is lost.
func Attach(o Options) *Steering {
	s := &Steering{
		info:    Info{Requested: o.Policy, Effective: Hash},
		rows:    o.Rows,
		order:   o.Order,
		first:   o.First,
		sockets: maps.Clone(o.Sockets),
	}
	s.barred = s.bar(o.Shared)
	policy := o.Policy
	if policy == Auto {
		policy = Least
	}
	if err := s.attach(policy); err != nil {
		s.info.Reason, s.info.Err = fmt.Sprintf("%s: %v", policy, err), err
	}
	return s
}

// bar says why no program can or should be attached to the group.
func (s *Steering) bar(shared bool) error {
	if shared {
		return errors.New("other instances share the group, and a program would take their connections")
	}
	if domain, err := unix.GetsockoptInt(s.any(), unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_UNIX {
		return errors.New("a unix socket has one queue, which all acceptors take from")
	}
	protocol, err := unix.GetsockoptInt(s.any(), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return fmt.Errorf("SO_PROTOCOL: %w", err)
	}
	if protocol == unix.IPPROTO_MPTCP {
		return errors.New("the kernel attaches no program to Multipath TCP sockets")
	}
	return nil
}

func (s *Steering) attach(policy Policy) error {
	if s.barred != nil {
		if policy == Hash {
			return nil
		}
		return s.barred
	}
	if err := s.hash(); err != nil { // from here on nothing of before steers
		return err
	}
	switch policy {
	case Least, RoundRobin:
		if err := s.attachProgram(policy); err != nil {
			return err
		}
	case CPU:
		if err := s.cpu(); err != nil {
			return err
		}
	}
	s.info.Effective = policy
	return nil
}

func (s *Steering) attachProgram(policy Policy) error {
	for seat := range s.sockets {
		if err := mustBeSeat(seat); err != nil {
			return err
		}
	}
	p, err := load(s.rows, policy)
	if err != nil {
		return err
	}
	for seat, fd := range s.sockets {
		if err := p.place(seat, fd); err != nil {
			p.close()
			return err
		}
	}
	if err := p.steerTo(s.seats()); err != nil {
		p.close()
		return err
	}
	for place, seat := range s.seats() { // it begins to count rounds anew
		s.rows.Row(seat).round.Store(uint64(place+len(s.sockets)-s.first%len(s.sockets)) % uint64(len(s.sockets)))
	}
	// The program steers after this call.
	if err := p.attach(s.any()); err != nil {
		p.close()
		return err
	}
	s.program = &p
	return nil
}

// Info is what is in force.
func (s *Steering) Info() Info { return s.info }

// Close leaves the group to the kernel's hash; seats that were removed and still
// listen stay without new connections. It must come before the next Attach, and
// before the group's descriptors are closed.
func (s *Steering) Close() error {
	if s.info.Effective == Hash {
		return nil
	}
	s.info.Effective = Hash
	err := s.hash()
	if s.program != nil {
		s.program.close()
		s.program = nil
	}
	return err
}

// seats are those that are steered to, in ascending order.
func (s *Steering) seats() []int { return slices.Sorted(maps.Keys(s.sockets)) }

// any is a member of the group: what is set on one holds for all.
func (s *Steering) any() int {
	for _, fd := range s.sockets {
		return fd
	}
	return -1
}

func mustBeSeat(seat int) error {
	if seat < 0 || seat >= MaxAcceptors {
		return fmt.Errorf("seat %d: there are %d", seat, MaxAcceptors)
	}
	return nil
}
