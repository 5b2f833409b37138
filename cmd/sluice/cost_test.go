package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Short connections cost hardly more CPU time with a policy than with the kernel's hash.
//
// Counted is the time of sluice and of this process, which is client and backend: a
// program on a listener runs when a SYN comes, on loopback in the client's time. The
// policies take turns of a few milliseconds, and the median of the ratios of turns that
// follow each other is taken, so that what else the machine does is met by all alike.
// On a machine with four times more to do than CPUs a second hash differed from the
// first by up to 4 % that way: hence the tolerance.
func TestCostOfSteering(t *testing.T) {
	if testing.Short() || raced() {
		t.Skip("-short or -race: it measures CPU time")
	}
	const (
		turns     = 150
		each      = 50 // connections a turn
		most      = 1.03
		tolerance = .05
	)
	needBPF(t)
	modes(t, func(t *testing.T, mode string) {
		policies := []struct {
			name string
			s    *instance
			cost []float64 // CPU microseconds a connection, by turn
		}{
			{name: "hash", s: steered(t, mode, "hash", time.Minute)},
			{name: "least", s: steered(t, mode, "least", time.Minute)},
			{name: "hand-off", s: unprivileged(t, mode, "auto", time.Minute)},
			{name: "hash again", s: steered(t, mode, "hash", time.Minute)},
		}
		for range turns {
			for i := range policies {
				p := &policies[i]
				before := p.s.cpuTime() + cpuTimeOf(t, os.Getpid())
				for range each {
					short(t, p.s.at("127.0.0.1"))
				}
				used := p.s.cpuTime() + cpuTimeOf(t, os.Getpid()) - before
				p.cost = append(p.cost, float64(used.Microseconds())/each)
			}
		}
		for _, p := range policies {
			var ratios []float64
			for i := range p.cost {
				ratios = append(ratios, p.cost[i]/policies[0].cost[i])
			}
			t.Logf("%-10s  %6.1f us a connection, client and backend included; %.3f of hash", p.name, median(p.cost), median(ratios))
			if p.name == "least" && median(ratios) > most+tolerance {
				t.Errorf("least costs %.3f of hash, want at most %.2f, and %.2f for what else goes on", median(ratios), most, tolerance)
			}
		}
	})
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// cpuTime is what the program has used, over all its processes.
func (s *instance) cpuTime() (sum time.Duration) {
	s.t.Helper()
	for _, pid := range s.processes() {
		sum += cpuTimeOf(s.t, pid)
	}
	return sum
}

// cpuTimeOf reads schedstat, which counts nanoseconds where stat counts ticks of 10 ms.
func cpuTimeOf(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, thread := range threads {
		b, _ := os.ReadFile(thread) // one that has ended has none
		ran, _, _ := strings.Cut(string(b), " ")
		ns, _ := strconv.ParseInt(ran, 10, 64)
		sum += time.Duration(ns)
	}
	if sum == 0 {
		unable(t, "process %d shows no CPU time in schedstat", pid)
	}
	return sum
}
