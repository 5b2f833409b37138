package config

import (
	"io/fs"
	"runtime"
	"testing"
	"testing/fstest"
)

func TestAutoAcceptors(t *testing.T) {
	v2 := func(max string) fstest.MapFS {
		return fstest.MapFS{
			"proc/self/cgroup":                    {Data: []byte("0::/app.slice/app\n")},
			"sys/fs/cgroup/app.slice/cpu.max":     {Data: []byte("max 100000\n")},
			"sys/fs/cgroup/app.slice/app/cpu.max": {Data: []byte(max)},
		}
	}
	v1 := func(quota string) fstest.MapFS { // as a container sees it: the path is the host's
		return fstest.MapFS{
			"proc/self/cgroup":                            {Data: []byte("4:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n")},
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":  {Data: []byte(quota + "\n")},
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": {Data: []byte("100000\n")},
		}
	}
	for _, test := range []struct {
		name  string
		files fstest.MapFS
		cpus  int
		want  int
	}{
		{"no quota", v2("max 100000\n"), 8, 8},
		{"half a CPU", v2("50000 100000\n"), 2, 1},
		{"a hair of one", v2("1000 100000\n"), 8, 1},
		{"one CPU", v2("100000 100000\n"), 2, 1},
		{"one and a half", v2("150000 100000\n"), 8, 2},
		{"more than there are", v2("900000 100000\n"), 4, 4},
		{"no file", fstest.MapFS{}, 3, 3},
		{"not a number", v2("much\n"), 3, 3},
		{"version 1, half a CPU", v1("50000"), 2, 1},
		{"version 1, no quota", v1("-1"), 2, 2},
		{"many CPUs", fstest.MapFS{}, 512, 64},
	} {
		read := func(path string) ([]byte, error) { return fs.ReadFile(test.files, path[1:]) }
		if got := AutoAcceptors(test.cpus, read); got != test.want {
			t.Errorf("%s: %d acceptors on %d CPUs, want %d", test.name, got, test.cpus, test.want)
		}
	}
}

// The loops of mode goroutine raise the runtime's GOMAXPROCS. The number of acceptors
// must not follow, or they would become more and more.
func TestNumberIgnoresTheRuntime(t *testing.T) {
	want := Acceptors{}.Number()
	before := runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 3)
	defer runtime.GOMAXPROCS(before)
	if got := (Acceptors{}).Number(); got != want {
		t.Errorf("%d acceptors, %d before the runtime had more threads", got, want)
	}
}

func TestCPUs(t *testing.T) {
	for value, want := range map[string]int{"": runtime.NumCPU(), "3": 3, "0": runtime.NumCPU(), "many": runtime.NumCPU()} {
		if got := cpus(func(string) string { return value }); got != want {
			t.Errorf("GOMAXPROCS=%q: %d CPUs, want %d", value, got, want)
		}
	}
}

func TestAutoBatch(t *testing.T) {
	for release, want := range map[string]bool{
		"4.19.0-27-amd64\n": false, "6.5.13\n": false, "6.6.0\n": true, "6.18.44-fc\n": true, "7.0-rc1\n": true, "10.0\n": true, "Linux\n": false,
	} {
		if got := AutoBatch(func(string) ([]byte, error) { return []byte(release), nil }); got != want {
			t.Errorf("%q: %t, want %t", release, got, want)
		}
	}
	if AutoBatch(func(string) ([]byte, error) { return nil, fs.ErrNotExist }) {
		t.Error("batch on a kernel without a name")
	}
}
