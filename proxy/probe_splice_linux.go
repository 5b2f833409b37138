package proxy

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/proxy/internal/sys"
)

// ProbeSplice says whether splice(2) moves bytes here from a socket to a pipe and from there
// to a socket; a sandbox may refuse it. It opens no port.
func ProbeSplice() error {
	calls := sys.Linux()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	defer calls.Close(pair[0])
	defer calls.Close(pair[1])
	r, w, _, errno := calls.Pipe(minPipeSize)
	if errno != 0 {
		return fmt.Errorf("pipe2: %w", errno)
	}
	defer calls.Close(r)
	defer calls.Close(w)
	if _, errno := calls.Write(pair[0], []byte{1}); errno != 0 {
		return fmt.Errorf("sendto: %w", errno)
	}
	for _, way := range [][2]int{{pair[1], w}, {r, pair[1]}} {
		if _, errno := calls.Splice(way[0], way[1], 1); errno != 0 {
			return fmt.Errorf("splice: %w", errno)
		}
	}
	return nil
}
