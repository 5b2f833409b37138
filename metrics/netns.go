package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Netns are the kernel's counters on accepting, of the whole network namespace:
// they tell of queues that are not ours, too. A counter that this kernel does
// not have (migration came with 5.14) is 0.
type Netns struct {
	ListenOverflows   uint64 `json:"listen_overflows"` // a full accept queue refused a connection
	ListenDrops       uint64 `json:"listen_drops"`     // refused for any reason, the former included
	MigrationsDone    uint64 `json:"migrations_done"`  // waiting connections moved from a closed socket to its group
	MigrationsRefused uint64 `json:"migrations_refused"`
}

// ReadNetns reads the counters of this process's network namespace.
func ReadNetns() (*Netns, error) {
	f, err := os.Open("/proc/self/net/netstat")
	if err != nil {
		return nil, fmt.Errorf("read TCP counters: %w", err)
	}
	defer f.Close()
	n, err := parseNetstat(f)
	if err != nil {
		return nil, fmt.Errorf("read TCP counters: %s: %w", f.Name(), err)
	}
	return n, nil
}

// parseNetstat reads pairs of lines: "TcpExt: name name ...", "TcpExt: 1 2 ...".
func parseNetstat(r io.Reader) (*Netns, error) {
	var n Netns
	fields := map[string]*uint64{
		"ListenOverflows":      &n.ListenOverflows,
		"ListenDrops":          &n.ListenDrops,
		"TCPMigrateReqSuccess": &n.MigrationsDone,
		"TCPMigrateReqFailure": &n.MigrationsRefused,
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if len(names) == 0 || names[0] != "TcpExt:" {
			continue
		}
		lines.Scan()
		values := strings.Fields(lines.Text())
		if len(values) != len(names) {
			return nil, fmt.Errorf("%d TcpExt names, %d values", len(names), len(values))
		}
		for i, name := range names {
			into := fields[name]
			if into == nil {
				continue
			}
			v, err := strconv.ParseUint(values[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("TcpExt %s: %w", name, err)
			}
			*into = v
		}
		return &n, nil
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("no TcpExt line")
}
