package steering

import (
	"errors"
	"os"
	"runtime"
	"slices"
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

func openGroup(t *testing.T, o listener.Options) *listener.Group {
	t.Helper()
	g, err := listener.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	return g
}

// attach steers a group that the test opened.
func attach(t *testing.T, g *listener.Group, rows *Rows, policy Policy) *Steering {
	t.Helper()
	s := Attach(Options{Sockets: socketsOf(g), Order: g.Order, Rows: rows, Policy: policy})
	t.Cleanup(func() { s.Close() })
	return s
}

func TestAutoTakesLeast(t *testing.T) {
	needBPF(t)
	s := attach(t, openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(2)}), newRows(t), Auto)
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
	group := openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(2)})
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
		s := attach(t, group, rows, test.asked)
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
		s := attach(t, openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(2)}), newRows(t), policy)
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
		{"shared", "other instances", listener.Options{Seats: seats(2)}, true},
		{"multipath", "Multipath", listener.Options{Seats: seats(2), MPTCP: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.group.Address = "127.0.0.1:0"
			if g, err := listener.Open(test.group); err == nil {
				g.Close()
			} else if test.group.MPTCP {
				t.Skip("this kernel has no MPTCP: ", err)
			}
			group := openGroup(t, test.group)
			for _, policy := range []Policy{Auto, Least, RoundRobin, CPU, Hash} {
				s := Attach(Options{Sockets: socketsOf(group), Order: group.Order, Rows: rows, Policy: policy, Shared: test.shared})
				defer s.Close()
				info := s.Info()
				if info.Effective != Hash || policy == Hash && info.Reason != "" || policy != Hash && !strings.Contains(info.Reason, test.reason) {
					t.Errorf("%+v", info)
				}
				if err := s.Remove(0); err == nil || !strings.Contains(err.Error(), test.reason) {
					t.Errorf("remove: %v, want that it cannot be", err)
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
	group := openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(MaxAcceptors + 1)})
	tooMany := attach(t, group, s.rows, Least)
	if info := tooMany.Info(); info.Effective != Hash || !strings.Contains(info.Reason, "seat 64") {
		t.Errorf("%+v", info)
	}
	if err := s.steering.Place(MaxAcceptors, group.FD(0)); err == nil {
		t.Error("placed a socket beyond the last acceptor")
	}
}

// A connection goes to the acceptor with the number of the CPU that got its SYN,
// on loopback the client's; where seats are missing, the others are counted.
func TestCPU(t *testing.T) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	s := start(t, "127.0.0.1:0", 4, CPU)
	runtime.LockOSThread() // never unlocked: the thread, being pinned, ends with the test
	want := make([]int64, len(s.acceptors))
	check := func(seats ...int) {
		t.Helper()
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
			want[seats[cpu%len(seats)]] += 8
			var total int64
			for _, n := range want {
				total += n
			}
			if held := s.held(total); !slices.Equal(held, want) {
				t.Errorf("after CPU %d: held %v, want %v", cpu, held, want)
			}
		}
	}
	check(0, 1, 2, 3)
	if err := s.steering.Remove(0); err != nil {
		t.Fatal(err)
	}
	check(1, 2, 3)
	if err := errors.Join(s.group.Remove(0), s.steering.Removed(0)); err != nil {
		t.Fatal(err)
	}
	check(1, 2, 3) // the kernel's order is 3, 1, 2
	if err := s.steering.Remove(3); err != nil {
		t.Fatal(err)
	}
	check(1, 2)
	if err := s.steering.Place(3, s.group.FD(3)); err != nil { // it stays after all
		t.Fatal(err)
	}
	check(1, 2, 3)
}

func TestNothingLeaks(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	group := openGroup(t, listener.Options{Address: "127.0.0.1:0", Seats: seats(4)})
	before := count()
	for _, policy := range []Policy{Auto, Least, RoundRobin, CPU, Hash} {
		rows, err := NewRows()
		if err != nil {
			t.Fatal(err)
		}
		s := attach(t, group, rows, policy)
		if err := errors.Join(s.Close(), rows.Close()); err != nil {
			t.Error(err)
		}
		Probe()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
