package host

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"sluice/metrics"
)

// clockTicks per second of /proc/PID/stat: USER_HZ, 100 on every Linux machine.
const clockTicks = 100

// Where things stand in what processStat returns.
const (
	statState    = 0
	statParent   = 1
	statUser     = 11 // clock ticks
	statSystem   = 12
	statResident = 21 // pages
)

// processStat is /proc/PID/stat from the state on; nil when there is no such process.
func processStat(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	// The command's name stands in brackets and may hold spaces: count from its end.
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// readProcess fills in what /proc tells of w.PID. A process that has ended leaves
// the fields as they are.
func readProcess(w *metrics.Worker) {
	if f := processStat(w.PID); len(f) > statResident {
		user, _ := strconv.ParseUint(f[statUser], 10, 64)
		system, _ := strconv.ParseUint(f[statSystem], 10, 64)
		resident, _ := strconv.ParseUint(f[statResident], 10, 64)
		w.CPUSeconds = float64(user+system) / clockTicks
		w.ResidentBytes = resident * uint64(os.Getpagesize())
	}
	w.OpenFDs = openFDs("/proc/" + strconv.Itoa(w.PID) + "/fd")
}

// openFDs counts without a look at each where the kernel tells the number as the
// directory's size, since Linux 6.2.
func openFDs(dir string) uint64 {
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 {
		return uint64(info.Size())
	}
	fds, _ := os.ReadDir(dir)
	return uint64(len(fds))
}
