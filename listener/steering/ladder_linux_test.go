package steering

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/listener"
)

func TestPolicyNames(t *testing.T) {
	for p := Auto; p <= Hash; p++ {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePolicy("fair"); err == nil || !strings.Contains(err.Error(), "round_robin") {
		t.Errorf("fair: %v", err)
	}
}

func openGroup(t *testing.T, o listener.Options) []int {
	t.Helper()
	g, err := listener.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for i := range g.Len() {
		fds = append(fds, g.FD(i))
	}
	return fds
}

func TestAutoTakesLeast(t *testing.T) {
	needBPF(t)
	s := Attach(Options{Sockets: openGroup(t, listener.Options{Address: "127.0.0.1:0", Count: 2}), Rows: newRows(t)})
	defer s.Close()
	if s.Info() != (Info{Requested: Auto, Effective: Least}) {
		t.Errorf("%+v", s.Info())
	}
}

// Without any privilege the programs are refused with the reason, cpu works, and
// rows are plain memory.
func TestWithoutPrivilege(t *testing.T) {
	keepOnly(t, 0)
	support := Probe()
	if !errors.Is(support.BPF, unix.EPERM) || errors.Is(support.BPF, ErrNotSupported) {
		t.Errorf("BPF: %v, want could not tell, for lack of permission", support.BPF)
	}
	if support.CPU != nil {
		t.Errorf("CPU: %v", support.CPU)
	}
	rows := newRows(t)
	sockets := openGroup(t, listener.Options{Address: "127.0.0.1:0", Count: 2})
	for _, test := range []struct {
		asked, got Policy
		reason     string
	}{
		{Auto, Hash, "CAP_BPF"},
		{Least, Hash, "CAP_BPF"},
		{RoundRobin, Hash, "CAP_BPF"},
		{CPU, CPU, ""},
		{Hash, Hash, ""},
	} {
		s := Attach(Options{Sockets: sockets, Rows: rows, Policy: test.asked})
		info := s.Info()
		if info.Requested != test.asked || info.Effective != test.got || (info.Reason == "") != (test.reason == "") || !strings.Contains(info.Reason, test.reason) || test.reason != "" && !errors.Is(info.Err, unix.EPERM) {
			t.Errorf("%s: %+v", test.asked, info)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// CAP_BPF is all that the programs need: what a container is to be given.
func TestCapBPFIsEnough(t *testing.T) {
	needBPF(t)
	needRoot(t)
	keepOnly(t, 1<<unix.CAP_BPF)
	for _, policy := range programs {
		s := Attach(Options{Sockets: openGroup(t, listener.Options{Address: "127.0.0.1:0", Count: 2}), Rows: newRows(t), Policy: policy})
		if s.Info().Effective != policy {
			t.Errorf("%+v", s.Info())
		}
		s.Close()
	}
}

func TestNotSteered(t *testing.T) {
	rows := newRows(t)
	for _, test := range []struct {
		name, reason string
		group        listener.Options
		shared       bool
	}{
		{"shared", "other instances", listener.Options{Count: 2}, true},
		{"one socket", "one socket", listener.Options{Count: 1}, false},
		{"multipath", "Multipath", listener.Options{Count: 2, MPTCP: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.group.Address = "127.0.0.1:0"
			if g, err := listener.Open(test.group); err == nil {
				g.Close()
			} else if test.group.MPTCP {
				t.Skip("this kernel has no MPTCP: ", err)
			}
			sockets := openGroup(t, test.group)
			for _, policy := range []Policy{Auto, Least, RoundRobin, CPU, Hash} {
				s := Attach(Options{Sockets: sockets, Rows: rows, Policy: policy, Shared: test.shared})
				defer s.Close()
				info := s.Info()
				if info.Effective != Hash || policy == Hash && info.Reason != "" || policy != Hash && !strings.Contains(info.Reason, test.reason) {
					t.Errorf("%+v", info)
				}
			}
		})
	}
}

func TestMostAcceptors(t *testing.T) {
	needBPF(t)
	s := start(t, "127.0.0.1:0", MaxAcceptors, Least)
	s.dial("127.0.0.1", 2*MaxAcceptors, true)
	if held := s.held(2 * MaxAcceptors); spread(held) > 1 {
		t.Errorf("held %v", held)
	}
	sockets := openGroup(t, listener.Options{Address: "127.0.0.1:0", Count: MaxAcceptors + 1})
	tooMany := Attach(Options{Sockets: sockets, Rows: s.rows, Policy: Least})
	if info := tooMany.Info(); info.Effective != Hash || !strings.Contains(info.Reason, "65 sockets") {
		t.Errorf("%+v", info)
	}
	if err := s.steering.Place(MaxAcceptors, sockets[0]); err == nil {
		t.Error("placed a socket beyond the last acceptor")
	}
}

// A connection goes to the acceptor with the number of the CPU that got its SYN,
// on loopback the client's.
func TestCPU(t *testing.T) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	s := start(t, "127.0.0.1:0", 2, CPU)
	runtime.LockOSThread() // never unlocked: the thread, being pinned, ends with the test
	want := make([]int64, 2)
	for cpu := range runtime.NumCPU() {
		if !allowed.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		s.dial("127.0.0.1", 8, false)
		want[cpu%2] += 8
		held := s.held(want[0] + want[1])
		if held[0] != want[0] || held[1] != want[1] {
			t.Errorf("after CPU %d: held %v, want %v", cpu, held, want)
		}
	}
}

func TestNothingLeaks(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	sockets := openGroup(t, listener.Options{Address: "127.0.0.1:0", Count: 4})
	before := count()
	for _, policy := range []Policy{Auto, Least, RoundRobin, CPU, Hash} {
		rows, err := NewRows()
		if err != nil {
			t.Fatal(err)
		}
		s := Attach(Options{Sockets: sockets, Rows: rows, Policy: policy})
		if err := errors.Join(s.Close(), rows.Close()); err != nil {
			t.Error(err)
		}
		Probe()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
