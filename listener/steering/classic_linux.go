package steering

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Classic programs need no privilege. One returns a number, and the group's socket of
// that number in the kernel has the connection. Where there is none, the hash chooses.

// hash leaves the choice to the kernel's own hash, or, while sockets listen that
// are to get nothing new, to a program that draws one of the others at random.
// Their spread does not tell them apart.
func (s *Steering) hash() error {
	numbers := s.numbers()
	if len(numbers) == len(s.order()) {
		if err := detach(s.any()); !errors.Is(err, errNoDetach) {
			return err
		}
	}
	return attachClassic(s.any(), chooseAtRandom(numbers))
}

// cpu gives CPU n's connections to the n-th seat, counted round.
func (s *Steering) cpu() error { return attachClassic(s.any(), chooseByCPU(s.numbers())) }

// numbers are the kernel's numbers of the sockets that are steered to, by ascending
// seat.
func (s *Steering) numbers() []int {
	order := s.order()
	var numbers []int
	for _, seat := range s.seats() {
		if n := slices.Index(order, seat); n >= 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// Ancillary loads are loads from these negative offsets.
const (
	skfAdOff    = -0x1000
	skfAdCPU    = 36 // the CPU that got the packet
	skfAdRandom = 56
)

func chooseByCPU(numbers []int) []unix.SockFilter    { return choose(skfAdCPU, numbers) }
func chooseAtRandom(numbers []int) []unix.SockFilter { return choose(skfAdRandom, numbers) }

// choose returns numbers[load mod their count]. Most often number i is i itself, and
// the jumps are for those that are not: at most 64 of them.
func choose(load int, numbers []int) []unix.SockFilter {
	offset := int32(skfAdOff + load)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(numbers))},
	}
	for i, n := range numbers {
		if n != i {
			filter = append(filter,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i), Jf: 1},
				unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(n)})
		}
	}
	return append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
}

// attachClassic puts a classic program in charge of fd's group, in one step with the
// end of what steered it before.
func attachClassic(fd int, filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog); err != nil {
		return fmt.Errorf("SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}

var errNoDetach = errors.New("this kernel detaches no program (5.3 does)")

// detach takes any program from fd's group.
func detach(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	switch {
	case errors.Is(err, unix.ENOENT): // there was none
		return nil
	case errors.Is(err, unix.ENOPROTOOPT):
		return errNoDetach
	case err != nil:
		return fmt.Errorf("SO_DETACH_REUSEPORT_BPF: %w", err)
	}
	return nil
}
