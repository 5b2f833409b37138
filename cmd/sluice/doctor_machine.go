package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/cmd/internal/cgroup"
	"sluice/listener/steering"
	"sluice/metrics"
)

// machine is what the doctor can look at.
type machine struct {
	read     func(path string) ([]byte, error)
	steering func() steering.Support
	splice   func() error
	netns    func() (*metrics.Netns, error)
	mptcp    func() error   // why there is no Multipath TCP; nil = there is
	refused  func() []error // the options that take a right which this user lacks
	cpus     func() int     // that may be used, as the runtime counts them
}

// fields are the words of a file of one line.
func (m machine) fields(path string) ([]string, error) {
	b, err := m.read(path)
	return strings.Fields(string(b)), err
}

// number is the first word of a file, or the one at index.
func (m machine) number(path string, index int) (int64, error) {
	words, err := m.fields(path)
	if err != nil {
		return 0, err
	}
	if index >= len(words) {
		return 0, fmt.Errorf("%s: %d words, want more", path, len(words))
	}
	n, err := strconv.ParseInt(words[index], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// sysctl is the number of a setting such as net.core.somaxconn.
func (m machine) sysctl(key string, index int) (int64, error) {
	return m.number("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), index)
}

// line is what follows a prefix in a file.
func (m machine) line(path, prefix string) (string, error) {
	b, err := m.read(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if rest, found := strings.CutPrefix(line, prefix); found {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("%s: no %q", path, prefix)
}

// kernel is its release, and whether it is at least major.minor.
func (m machine) kernel(major, minor int) (release string, atLeast bool, err error) {
	words, err := m.fields("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", false, err
	}
	release = strings.Join(words, " ")
	var have [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); err != nil {
		return "", false, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return release, slices.Compare(have[:], []int{major, minor}) >= 0, nil
}

// openFiles is the hard limit. Sluice raises the soft one to it.
func (m machine) openFiles() (int64, error) {
	words, err := m.line("/proc/self/limits", "Max open files")
	if err != nil {
		return 0, err
	}
	var soft, hard string
	if _, err := fmt.Sscan(words, &soft, &hard); err != nil {
		return 0, fmt.Errorf("limit of open files %q: %w", words, err)
	}
	return strconv.ParseInt(hard, 10, 64)
}

// capable says whether this process has one of the capabilities where the kernel asks
// for it in the initial user namespace.
func (m machine) capable(capabilities ...int) (bool, error) {
	u, err := m.user()
	return u.initial && slices.ContainsFunc(capabilities, u.has), err
}

// ioLimits are the limits on writing to disks of all cgroups of this process; "" = none.
func (m machine) ioLimits() (string, error) {
	dirs, err := cgroup.Dirs(m.read, "blkio") // version 1; its name in version 2 is not needed
	if err != nil {
		return "", err
	}
	var limits []string
	for _, dir := range dirs {
		for _, file := range []string{"io.max", "blkio.throttle.write_bps_device", "blkio.throttle.write_iops_device"} {
			words, _ := m.fields(dir + "/" + file) // one that is not there sets none
			if len(words) > 0 {
				limits = append(limits, strings.Join(words, " "))
			}
		}
	}
	return strings.Join(limits, "; "), nil
}
