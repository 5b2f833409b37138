package metrics

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is CLOCK_MONOTONIC in nanoseconds: the clock of heartbeats, which all processes
// of a service and the steering program read. It does not enter the kernel: the runtime's
// own reading of that clock is added to what it was at the start.
func Monotonic() int64 { return began.clock + int64(time.Since(began.at)) }

var began = func() (b struct {
	at    time.Time
	clock int64
}) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	b.at, b.clock = time.Now(), ts.Nano()
	return b
}()
