package steering

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Steering is what was attached to one group. It belongs to one goroutine.
type Steering struct {
	info    Info
	sockets []int
	program *program // Least, RoundRobin
}

// Attach steers a group. Whatever steered it before is taken away first, and the
// kernel's hash chooses meanwhile. It cannot fail: when the policy asked for is
// not to be had, Hash is in force and Info says why.
func Attach(o Options) *Steering {
	s := &Steering{
		info:    Info{Requested: o.Policy, Effective: Hash},
		sockets: append([]int{}, o.Sockets...),
	}
	policy := o.Policy
	if policy == Auto {
		policy = Least
	}
	if err := s.attach(o, policy); err != nil {
		s.info.Reason, s.info.Err = fmt.Sprintf("%s: %v", policy, err), err
		return s
	}
	s.info.Effective = policy
	return s
}

func (s *Steering) attach(o Options, policy Policy) error {
	if policy != Hash {
		if err := steerable(o); err != nil {
			return err
		}
	}
	if !o.Shared {
		if err := detach(o.Sockets[0]); err != nil {
			return err
		}
	}
	switch policy {
	case Least, RoundRobin:
		return s.attachProgram(o, policy)
	case CPU:
		return attachCPU(o.Sockets[0], len(o.Sockets))
	}
	return nil
}

// steerable says why no program can or should be attached to the group.
func steerable(o Options) error {
	if o.Shared {
		return errors.New("other instances share the group, and a program would take their connections")
	}
	if len(o.Sockets) < 2 {
		return errors.New("the group has one socket, so there is nothing to choose")
	}
	protocol, err := unix.GetsockoptInt(o.Sockets[0], unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return fmt.Errorf("SO_PROTOCOL: %w", err)
	}
	if protocol == unix.IPPROTO_MPTCP {
		return errors.New("the kernel attaches no program to Multipath TCP sockets")
	}
	return nil
}

func (s *Steering) attachProgram(o Options, policy Policy) error {
	if len(o.Sockets) > MaxAcceptors {
		return fmt.Errorf("%d sockets are more than the %d it can choose from", len(o.Sockets), MaxAcceptors)
	}
	p, err := load(o.Rows, policy, o.HangAfter)
	if err != nil {
		return err
	}
	for i, fd := range o.Sockets {
		if err := p.place(i, fd); err != nil {
			p.close()
			return err
		}
	}
	// The program steers after this call.
	if err := p.attach(o.Sockets[0]); err != nil {
		p.close()
		return err
	}
	s.program = &p
	return nil
}

// Info is what is in force.
func (s *Steering) Info() Info { return s.info }

// Place gives acceptor i a listening socket of the group: a further acceptor, or
// a new socket in the place of one that was closed. A socket that is closed
// leaves by itself; with its row's Draining flag set the program need not find
// out. Under CPU the last socket then takes the closed one's number.
func (s *Steering) Place(i, fd int) error {
	switch s.info.Effective {
	case Least, RoundRobin:
		if i >= MaxAcceptors {
			return fmt.Errorf("acceptor %d: there can be %d", i, MaxAcceptors)
		}
		if err := s.program.place(i, fd); err != nil {
			return err
		}
	case CPU:
		if err := attachCPU(fd, max(i+1, len(s.sockets))); err != nil {
			return err
		}
	}
	for len(s.sockets) <= i {
		s.sockets = append(s.sockets, fd)
	}
	s.sockets[i] = fd
	return nil
}

// Close leaves the group to the kernel's hash. It must come before the group's
// descriptors are closed.
func (s *Steering) Close() error {
	if s.info.Effective == Hash {
		return nil
	}
	s.info.Effective = Hash
	err := detach(s.sockets[0])
	if s.program != nil {
		s.program.close()
	}
	return err
}

// attachCPU lets the group's socket number CPU mod n have the connection. The
// kernel numbers the sockets in the order of their listen(2).
func attachCPU(fd, n int) error {
	const skfAdOff, skfAdCPU = -0x1000, 36 // "load the CPU's number" is a load from this negative offset
	offset := int32(skfAdOff + skfAdCPU)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog); err != nil {
		return fmt.Errorf("SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}

// detach takes any program from fd's group (Linux 5.3 and later).
func detach(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) { // there was none, or cannot be: Multipath TCP
		return nil
	}
	if err != nil {
		return fmt.Errorf("SO_DETACH_REUSEPORT_BPF: %w", err)
	}
	return nil
}
