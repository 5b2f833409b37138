package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// job is what a load process does. It comes first on its standard input; the steps follow.
type job struct {
	Target   netip.AddrPort
	Threads  int
	Held     int           // sessions that "open" establishes and keeps
	InFlight int           // of the held sessions, how many have a request out at the same time
	Short    int           // > 0: "run" makes short sessions instead, so many at a time
	Streams  int           // sessions that download without end while a "run" of short sessions lasts; "open" establishes them
	Request  request       // what each held or short session asks for
	Greeting bool          // the backend speaks first: wait for it before the request
	Patience time.Duration // > 0: a short session without its answer by then is counted as failed; 0: any failure ends the step
	CheckAll bool
}

// step is one command to a load process: "open", "run" (Count requests or short sessions) or "close".
type step struct {
	Do    string
	Count int
}

// reply is what a step gave. Latency: from connect (short sessions) or from sending the request (held ones) to the last byte of the
// answer; a failed session counts with the patience it was given. Elapsed: from the start of the step to its last answer.
type reply struct {
	Elapsed       time.Duration
	Failed        int
	P50, P99, Max time.Duration
	Err           string
}

// stepLimit ends a step that hangs.
const stepLimit = 60 * time.Second

// serveLoad is the load process: a job, then steps, each of them answered by a reply, until in ends.
func serveLoad(in io.Reader, out io.Writer) error {
	commands, replies := json.NewDecoder(in), json.NewEncoder(out)
	var j job
	if err := commands.Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	generators, err := newGenerators(j)
	if err != nil {
		return err
	}
	if err := replies.Encode(reply{}); err != nil {
		return fmt.Errorf("tell that all is ready: %w", err)
	}
	for {
		var s step
		if err := commands.Decode(&s); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a step: %w", err)
		}
		if err := replies.Encode(runStep(generators, s)); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
	}
}

// newGenerators divides a job between as many threads as it can use.
func newGenerators(j job) ([]*generator, error) {
	threads := max(1, min(j.Threads, max(j.Held, j.Short)))
	generators := make([]*generator, threads)
	for i := range generators {
		part := j
		part.Held = share(j.Held, i, threads)
		part.InFlight = share(j.InFlight, i, threads)
		part.Short = share(j.Short, i, threads)
		part.Streams = share(j.Streams, i, threads)
		l, err := newLoop()
		if err != nil {
			return nil, err
		}
		generators[i] = &generator{loop: l, job: part, sessions: map[int]*session{}, position: uint64(i) * 104729}
	}
	return generators, nil
}

// share is the i-th of k nearly equal parts of n.
func share(n, i, k int) int {
	if i < n%k {
		return n/k + 1
	}
	return n / k
}

// runStep has all generators do a step, each in its thread, and adds up what they measured.
func runStep(generators []*generator, s step) reply {
	var wg sync.WaitGroup
	for i, g := range generators {
		wg.Go(func() {
			defer lockThread()()
			g.do(step{Do: s.Do, Count: share(s.Count, i, len(generators))})
		})
	}
	wg.Wait()
	var sum histogram
	var r reply
	for _, g := range generators {
		sum.merge(&g.latencies)
		r.Elapsed = max(r.Elapsed, g.elapsed)
		r.Failed += g.failed
		if g.err != nil {
			r.Err = g.err.Error()
		}
	}
	r.P50, r.P99, r.Max = sum.quantile(0.50), sum.quantile(0.99), sum.max
	return r
}

// lockThread keeps the goroutine on its thread until the function that it returns is called.
func lockThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
