package main

import (
	"fmt"
	"slices"
	"time"
)

// figures is what one run of a case with one proxy gave, by the keys of the columns.
type figures map[string]float64

// measureWork measures a fixed number of requests or sessions: warm up, then CPU, throughput and latency of the rest.
func measureWork(r *rig, c *benchCase) (figures, error) {
	if _, err := r.do(step{Do: "open"}); err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "run", Count: c.warm}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	before, err := r.readCPU()
	if err != nil {
		return nil, err
	}
	done, err := r.do(step{Do: "run", Count: c.count})
	if err != nil {
		return nil, err
	}
	after, err := r.readCPU()
	if err != nil {
		return nil, err
	}
	units := float64(c.count)
	if c.family == bulkFamily {
		units *= float64(c.job.Request.Up+c.job.Request.Down) / 1e9
	}
	f := latencies(done)
	f["rate"] = units / done.Elapsed.Seconds()
	for i, key := range []string{"cpu", "ends"} {
		if before[i] == nil {
			continue // no proxy
		}
		used, err := cpuBetween(before[i], after[i])
		if err != nil {
			return nil, err
		}
		f[key] = used.Seconds() / units
	}
	return f, nil
}

// readCPU reads the CPU time of the proxy, nil if there is none, and of both ends: the load generator and the backend.
func (r *rig) readCPU() (used [2]map[int]time.Duration, err error) {
	if r.proxy != nil {
		if used[0], err = cpuUsed(r.proxy.pid()); err != nil {
			return used, err
		}
	}
	if used[1], err = cpuUsed(r.load.pid()); err != nil {
		return used, err
	}
	backend, err := cpuUsed(r.backend.pid())
	for pid, t := range backend {
		used[1][pid] = t
	}
	return used, err
}

func latencies(r reply) figures {
	return figures{"p50": r.P50.Seconds(), "p99": r.P99.Seconds(), "max": r.Max.Seconds()}
}

// settle is how long the proxy is left alone before its memory is read: what it gives back at once, it has given back.
const settle = 300 * time.Millisecond

// measureMemory measures the user memory of a held session: before any data, and after one exchange.
func measureMemory(r *rig, c *benchCase) (figures, error) {
	empty, err := r.readMemory()
	if err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "open"}); err != nil {
		return nil, err
	}
	if err := r.awaitHeld(c.job.Held); err != nil {
		return nil, err
	}
	opened, err := r.readMemory()
	if err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "run", Count: c.job.Held}); err != nil {
		return nil, err
	}
	used, err := r.readMemory()
	if err != nil {
		return nil, err
	}
	sessions := float64(c.job.Held)
	return figures{"opened": float64(opened-empty) / sessions, "used": float64(used-empty) / sessions}, nil
}

func (r *rig) readMemory() (int64, error) {
	time.Sleep(settle)
	return userMemory(r.proxy.pid())
}

// measureBalance opens the sessions several times and looks each time how many every acceptor holds.
func measureBalance(r *rig, c *benchCase) (figures, error) {
	spread := c.proxy.spread
	if spread == nil {
		return nil, errNotMeasurable{"it has no acceptors that could be told apart"}
	}
	var jains, peaks []float64
	for range balanceTrials {
		// A proxy may be a moment late to see that those of the trial before have been closed. Until it does, it weighs them too.
		if _, err := r.awaitSpread(spread, 0); err != nil {
			return nil, err
		}
		if _, err := r.do(step{Do: "open"}); err != nil {
			return nil, err
		}
		if err := r.awaitHeld(c.job.Held); err != nil {
			return nil, err
		}
		counts, err := r.awaitSpread(spread, c.job.Held)
		if err != nil {
			return nil, err
		}
		jains = append(jains, jain(counts))
		peaks = append(peaks, peak(counts))
		if _, err := r.do(step{Do: "close"}); err != nil {
			return nil, err
		}
	}
	return balanceFigures(jains, peaks), nil
}

func balanceFigures(jains, peaks []float64) figures {
	return figures{
		"jain": median(jains), "jain_worst": slices.Min(jains),
		"peak": median(peaks), "peak_worst": slices.Max(peaks),
	}
}

// awaitSpread reads the spread until it shows exactly the sessions that should be open.
func (r *rig) awaitSpread(spread func(*rig) ([]int, error), sessions int) ([]int, error) {
	var counts []int
	err := r.await(func() (err error) {
		if counts, err = spread(r); err != nil {
			return err
		}
		sum := 0
		for _, n := range counts {
			sum += n
		}
		if sum != sessions {
			return fmt.Errorf("the acceptors hold %v, want %d sessions", counts, sessions)
		}
		return nil
	})
	return counts, err
}

// measureFrozen stops one acceptor's process and counts what becomes of new sessions.
func measureFrozen(r *rig, c *benchCase) (figures, error) {
	if !c.proxy.workers {
		return nil, errNotMeasurable{"its acceptors are threads of one process, which cannot be stopped one by one"}
	}
	if _, err := r.do(step{Do: "run", Count: c.warm}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	workers, err := r.workers()
	if err != nil {
		return nil, err
	}
	thaw, err := freezeProcess(workers[0])
	if err != nil {
		return nil, err
	}
	defer thaw()
	if err := r.await(func() error { return checkFrozen(workers[0]) }); err != nil {
		return nil, err
	}
	done, err := r.do(step{Do: "run", Count: c.count})
	if err != nil {
		return nil, err
	}
	f := latencies(done)
	f["failed"] = float64(done.Failed) / float64(c.count)
	return f, nil
}

// errNotMeasurable: the figure cannot be had of this proxy, and why. It is named under the table, and is no
// failure.
type errNotMeasurable struct{ why string }

func (e errNotMeasurable) Error() string { return e.why }
