package accesslog

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceEpoch is what must be added to a Record's clock to make a time of it.
func sinceEpoch() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return time.Now().UnixNano() - ts.Nano()
}
