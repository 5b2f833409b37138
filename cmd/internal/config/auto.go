package config

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"

	"sluice/cmd/internal/cgroup"
)

// Auto is a number; 0 leaves it to sluice and is written "auto".
type Auto int

func (a Auto) String() string {
	if a == 0 {
		return "auto"
	}
	return strconv.Itoa(int(a))
}

// maxAcceptors bounds acceptors.count: the kernel's group holds 65,535 sockets,
// but each acceptor is a thread that wants a CPU of its own.
const maxAcceptors = 64

// AutoBatch says whether scheduling "auto" means "batch": from Linux 6.6 on.
//
// Until then (CFS) a thread that sleeps often goes before a program that computes as
// soon as it is woken, and in a batch only when that one's slice is over, some
// milliseconds later. With EEVDF little is lost: on Linux 6.18, with such a program on
// each CPU, p99 of 32 connections was 1.10 of nginx's and 1.03 without, p50 0.79 and 0.88.
func AutoBatch(read func(path string) ([]byte, error)) bool {
	b, err := read("/proc/sys/kernel/osrelease")
	var have [2]int
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d.%d", &have[0], &have[1])
	}
	return err == nil && slices.Compare(have[:], []int{6, 6}) >= 0
}

// cpus is how many the affinity mask allowed at the start, or as many as the variable
// GOMAXPROCS says. The runtime's own number is no measure: it is raised for the loops.
func cpus(env func(name string) string) int {
	if n, err := strconv.Atoi(env("GOMAXPROCS")); err == nil && n > 0 {
		return n
	}
	return runtime.NumCPU()
}

// AutoAcceptors is how many acceptors auto makes where so many CPUs may be used and
// read, such as os.ReadFile, shows the cgroup's CPU quota.
//
// A quota is rounded up, since a loop uses at most one CPU: 1.5 CPUs' worth of time
// can only be used up by two. The Go runtime has rounded it likewise, but counts no
// less than 2; with half a CPU's worth a second loop would have nothing to run on.
func AutoAcceptors(cpus int, read func(path string) ([]byte, error)) int {
	if quota, err := cgroup.CPUQuota(read); err == nil && quota > 0 {
		cpus = min(cpus, int(math.Ceil(quota)))
	}
	return min(cpus, maxAcceptors)
}
