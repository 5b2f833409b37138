package main

import (
	"errors"
	"fmt"
	"time"
)

// measureRest measures the CPU of a proxy that is not asked anything. Held sessions have had one answer, and must give another after
// it.
func measureRest(r *rig, c *benchCase) (figures, error) {
	if c.pooled.every > 0 && !c.proxy.checks {
		return nil, errNotMeasurable{"it does not check backends"}
	}
	if _, err := r.do(step{Do: "open"}); err != nil {
		return nil, err
	}
	if err := r.awaitHeld(c.job.Held); err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "run", Count: c.job.Held}); err != nil {
		return nil, err
	}
	if err := r.rest(c.lasts / 5); err != nil { // what start and opening left to be done is done
		return nil, err
	}
	before, err := cpuUsed(r.proxy.pid())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := r.rest(c.lasts); err != nil {
		return nil, err
	}
	after, err := cpuUsed(r.proxy.pid())
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(began)
	used, err := cpuBetween(before, after)
	if err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "run", Count: c.job.Held}); err != nil {
		return nil, fmt.Errorf("after the rest: %w", err)
	}
	return figures{"share": used.Seconds() / elapsed.Seconds()}, nil
}

// rest does nothing for a time, unless the load generator ends.
func (r *rig) rest(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.load.ended:
		return errors.New("the load generator ended")
	}
}

// measurePace measures what sessions cost that come at a pace: the machine is idle between them.
func measurePace(r *rig, c *benchCase) (figures, error) {
	if _, err := r.do(step{Do: "run", Time: c.lasts / 5}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	before, err := r.readCPU()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	done, err := r.do(step{Do: "run", Time: c.lasts})
	if err != nil {
		return nil, err
	}
	after, err := r.readCPU()
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(began)
	f := latencies(done)
	for i, key := range []string{"cpu", "ends"} {
		if before[i] == nil {
			continue // no proxy
		}
		used, err := cpuBetween(before[i], after[i])
		if err != nil {
			return nil, err
		}
		f[key] = used.Seconds() / float64(done.Done)
		if i == 0 {
			f["share"] = used.Seconds() / elapsed.Seconds()
		}
	}
	return f, nil
}

// measureFair measures what clients wait while streams take all they can get, and what the streams get.
func measureFair(r *rig, c *benchCase) (figures, error) {
	if _, err := r.do(step{Do: "open"}); err != nil {
		return nil, err
	}
	if _, err := r.do(step{Do: "run", Time: c.lasts / 5}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	done, err := r.do(step{Do: "run", Time: c.lasts})
	if err != nil {
		return nil, err
	}
	f := latencies(done)
	f["failed"] = float64(done.Failed) / float64(done.Done)
	f["streams"] = done.Streamed / 1e9
	return f, nil
}
