package host

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC in nanoseconds, which all processes of the service share.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return ts.Nano()
}

// SurveyWithin is the time for a Survey that has so long from now on.
func SurveyWithin(d time.Duration) int64 { return monotonic() + int64(d) }
