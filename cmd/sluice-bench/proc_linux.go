package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procStat is what is used of /proc/<pid>/stat. Pid and Start together name a process for ever.
type procStat struct {
	Pid, Parent int
	State       byte
	Start       uint64 // clock ticks since boot
}

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The name, in parentheses, may hold anything; all after the last one is plain.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}, fmt.Errorf("parent of process %d: %w", pid, err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("start of process %d: %w", pid, err)
	}
	return procStat{Pid: pid, Parent: parent, State: fields[0][0], Start: start}, nil
}

// processTree returns the process and all that descend from it, parents first.
func processTree(root int) ([]procStat, error) {
	first, err := readStat(root)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", root, err)
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]procStat{}
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue // not a process
		}
		if s, err := readStat(pid); err == nil { // one that has ended meanwhile has none
			children[s.Parent] = append(children[s.Parent], s)
		}
	}
	tree := []procStat{first}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i].Pid]...)
	}
	return tree, nil
}

// cpuUsed returns the CPU time of each process of a tree, user and system, all threads, those that have ended too. It reads the CPU
// clock of the process (clock_getcpuclockid(3)), which counts nanoseconds; /proc/<pid>/stat has the same figure in ticks of 10 ms.
func cpuUsed(root int) (map[int]time.Duration, error) {
	tree, err := processTree(root)
	if err != nil {
		return nil, err
	}
	used := map[int]time.Duration{}
	for _, p := range tree {
		const schedClock = 2
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^p.Pid<<3|schedClock), &t); err != nil {
			return nil, fmt.Errorf("CPU clock of process %d: %w", p.Pid, err)
		}
		used[p.Pid] = time.Duration(t.Nano())
	}
	return used, nil
}

// cpuBetween adds up what a tree used from one reading to the next. A process that ended in between took its figure along: then
// there is none.
func cpuBetween(before, after map[int]time.Duration) (time.Duration, error) {
	var sum time.Duration
	for pid, t := range after {
		sum += t - before[pid]
	}
	for pid := range before {
		if _, there := after[pid]; !there {
			return 0, fmt.Errorf("process %d ended during the measurement", pid)
		}
	}
	return sum, nil
}

// userMemory returns the proportional set size of a process tree in bytes: memory of its own, and its part of what it shares.
func userMemory(root int) (int64, error) {
	tree, err := processTree(root)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range tree {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(data), "\nPss:")
		line, _, _ := strings.Cut(rest, "kB")
		kib, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("proportional set size of process %d: %w", p.Pid, err)
		}
		sum += kib << 10
	}
	return sum, nil
}

// establishedAt returns the inodes of the established sockets, in the calling thread's network, whose own address has the port: the
// accepted ones of a listener there.
func establishedAt(at netip.AddrPort) (map[string]bool, error) {
	f, err := os.Open("/proc/thread-self/net/tcp")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	port := fmt.Sprintf(":%04X", at.Port())
	inodes := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st queues timer retransmits uid timeout inode
		fields := strings.Fields(lines.Text())
		if strings.HasSuffix(fields[1], port) && fields[3] == "01" {
			inodes[fields[9]] = true
		}
	}
	return inodes, lines.Err()
}

// socketsOf counts how many of the sockets with these inodes a process has open.
func socketsOf(pid int, inodes map[string]bool) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, is := strings.CutPrefix(target, "socket:["); is && inodes[strings.TrimSuffix(inode, "]")] {
			n++
		}
	}
	return n, nil
}

// openFileLimit is how many descriptors one process may have.
func openFileLimit() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return int(r.Cur), nil
}
