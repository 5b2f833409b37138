package main

import (
	"fmt"
	"math"
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
// policies take turns of some milliseconds between two turns of hash, and the medians of
// the turns' ratios are compared, so that what else the machine does is met by all alike.
// What is left of that shows in how much the two hashes differ: 2 to 8 % were seen.
func TestCostOfSteering(t *testing.T) {
	takesLong(t)
	if testing.Short() || raced() {
		t.Skip("-short or -race: it measures CPU time")
	}
	const (
		turns = 150
		each  = 50 // connections a turn
		most  = 1.03
		noise = .03 // at least
	)
	needBPF(t)
	modes(t, func(t *testing.T, mode string) {
		instances := []*instance{
			steered(t, mode, "hash", time.Minute),
			steered(t, mode, "least", time.Minute),
			unprivileged(t, mode, "auto", time.Minute),
			steered(t, mode, "hash", time.Minute),
		}
		var hash, again, least, handOff []float64
		for range turns {
			var cost [4]float64 // CPU microseconds a connection
			for i, s := range instances {
				before := s.cpuTime() + cpuTimeOf(t, os.Getpid())
				for range each {
					short(t, s.at("127.0.0.1"))
				}
				cost[i] = float64((s.cpuTime() + cpuTimeOf(t, os.Getpid()) - before).Microseconds()) / each
			}
			mean := (cost[0] + cost[3]) / 2
			hash = append(hash, mean)
			least = append(least, cost[1]/mean)
			handOff = append(handOff, cost[2]/mean)
			again = append(again, cost[3]/cost[0])
		}
		differ := math.Abs(median(again) - 1)
		t.Logf("hash costs %.0f us a connection, client and backend included; least %.3f of it, hand-off %.3f; two hashes differ by %.3f",
			median(hash), median(least), median(handOff), differ)
		if median(least) > most+noise+differ {
			t.Errorf("least costs %.3f of hash, want at most %.2f", median(least), most)
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
