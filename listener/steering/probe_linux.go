package steering

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe tries what can be attached, on rows and a socket of its own.
func Probe() Support {
	return Support{BPF: probeBPF(), CPU: probeCPU()}
}

func probeBPF() error {
	rows, err := NewRows()
	if err != nil {
		return err
	}
	defer rows.Close()
	p, err := load(rows, Least)
	if err != nil {
		return err
	}
	p.close()
	return nil
}

func probeCPU() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	err = attachClassic(fd, chooseByCPU([]int{0}))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("%w (4.6 has it): %w", ErrNotSupported, err)
	}
	return err
}
