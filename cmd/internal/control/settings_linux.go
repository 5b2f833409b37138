package control

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/cmd/internal/config"
	"sluice/cmd/internal/host"
	"sluice/proxy"
)

// settings makes those of a seat of n. They hold for its acceptor's life: an acceptor
// that came later may have a smaller share of the pipes.
func settings(a config.Acceptors, number, n int, nofile uint64) (s proxy.Settings, err error) {
	// An eighth of the descriptors for pipes, two each: the rest is for sessions.
	s.MaxPipes = max(int(nofile)/16/n, 4)
	s.Batch = a.Batch() && scheduledAsMost()
	if a.Mode == config.ModeGoroutine {
		s.MaxFD = sessionsBelow(int(nofile), n)
	}
	if a.PinCPUs {
		cpus, err := usableCPUs()
		if err != nil {
			return s, err
		}
		s.CPUs = []int{cpus[number%len(cpus)]} // with more acceptors than CPUs some share one
	}
	return s, nil
}

// newMailbox makes the sockets by which acceptors pass connections on to a seat. A
// sequenced packet keeps a listener's number and its descriptor together.
func newMailbox() (host.Mailbox, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return host.Mailbox{Receive: -1, Send: -1}, fmt.Errorf("socketpair: %w", err)
	}
	return host.Mailbox{Receive: fds[0], Send: fds[1]}, nil
}

func closeMailbox(m host.Mailbox) {
	unix.Close(m.Receive)
	unix.Close(m.Send)
}

// usableCPUs are the CPUs that this process may run on, in ascending order.
func usableCPUs() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// scheduledAsMost says whether no other scheduling was chosen for this process, as by
// chrt(1).
func scheduledAsMost() bool {
	attr, err := unix.SchedGetAttr(0, 0)
	return err == nil && attr.Policy == unix.SCHED_NORMAL
}
