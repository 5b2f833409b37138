package control

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/metrics"
)

// raiseNoFile lifts the limit of open files to the hard one and returns it: every
// session takes two.
func raiseNoFile() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit nofile: %w", err)
	}
	if l.Cur < l.Max {
		l.Cur = l.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return 0, fmt.Errorf("setrlimit nofile %d: %w", l.Max, err)
		}
	}
	return l.Cur, nil
}

// clockTicks per second of /proc/PID/stat: USER_HZ, 100 on every Linux machine.
const clockTicks = 100

// readProcess fills in what /proc tells of w.PID. A process that has ended leaves
// the fields as they are.
func readProcess(w *metrics.Worker) {
	dir := "/proc/" + strconv.Itoa(w.PID)
	if b, err := os.ReadFile(dir + "/stat"); err == nil {
		// The command's name stands in brackets and may hold spaces: count from its end.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) > 21 {
			user, _ := strconv.ParseUint(f[11], 10, 64)
			system, _ := strconv.ParseUint(f[12], 10, 64)
			resident, _ := strconv.ParseUint(f[21], 10, 64)
			w.CPUSeconds = float64(user+system) / clockTicks
			w.ResidentBytes = resident * uint64(os.Getpagesize())
		}
	}
	if fds, err := os.ReadDir(dir + "/fd"); err == nil {
		w.OpenFDs = uint64(len(fds))
	}
}
