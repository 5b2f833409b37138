// Package cgroup tells what the control groups of this process leave to it.
//
//	/proc/self/cgroup ─► Dirs: the group's directory, and those above it ─┬─► CPUQuota: the tightest
//	                                                                      └─► whatever else a caller reads there
//
// Both versions are read. The files come from a function such as os.ReadFile.
package cgroup

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Dirs are the directory of this process's group for a controller and those above it.
// In a container the path may be the host's, and only the last is there.
func Dirs(read func(path string) ([]byte, error), controller string) (dirs []string, err error) {
	b, err := read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	root, in := "", ""
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		switch {
		case len(part) < 3:
		case slices.Contains(strings.Split(part[1], ","), controller):
			root, in = "/sys/fs/cgroup/"+part[1], part[2]
		case part[1] == "" && root == "": // version 2
			root, in = "/sys/fs/cgroup", part[2]
		}
	}
	if root == "" {
		return nil, fmt.Errorf("/proc/self/cgroup: no controller %s", controller)
	}
	for ; in != "/"; in = path.Dir("/" + in) {
		dirs = append(dirs, root+in)
	}
	return append(dirs, root), nil
}

// CPUQuota is the CPUs' worth of time that the tightest group leaves; 0 = no quota. A
// file that is not there sets none.
func CPUQuota(read func(path string) ([]byte, error)) (least float64, err error) {
	dirs, err := Dirs(read, "cpu")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		text, err := read(dir + "/cpu.max") // version 2: quota and period
		if err != nil {
			quota, _ := read(dir + "/cpu.cfs_quota_us") // version 1
			period, _ := read(dir + "/cpu.cfs_period_us")
			text = slices.Concat(quota, []byte(" "), period)
		}
		var quota, period float64
		if n, _ := fmt.Sscan(string(text), &quota, &period); n < 2 || quota <= 0 { // "max", or -1
			continue
		}
		if cpus := quota / period; least == 0 || cpus < least {
			least = cpus
		}
	}
	return least, nil
}
