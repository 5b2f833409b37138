package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// job is what a load process does. It comes first on its standard input; the steps follow.
type job struct {
	Target   netip.AddrPort
	Threads  int
	Held     int           // sessions that "open" establishes and keeps
	InFlight int           // of the held sessions, how many have a request out at the same time
	Short    int           // > 0: "run" makes short sessions instead, so many at a time
	Every    time.Duration // > 0: short sessions begin at this pace, whatever has become of those before, but at most Short at a time; two
	// requests of held ones begin at least so far apart
	Streams  int           // sessions that download without end, in threads of their own, while a "run" lasts; "open" establishes them
	Request  request       // what each held or short session asks for
	Greeting bool          // the backend speaks first: wait for it before the request
	Patience time.Duration // > 0: a short session without its answer by then is counted as failed; 0: any failure ends the step
	CheckAll bool
}

// step is one command to a load process: "open", "run" or "close". A run makes Count requests or short sessions, or with Time > 0 as
// many as begin in that time.
type step struct {
	Do    string
	Count int
	Time  time.Duration
}

// reply is what a step gave. Latency: from connect (short sessions) or from sending the request (held ones) to the last byte of the
// answer; a failed session counts with the patience it was given. Elapsed: from the start of the step to its last answer.
type reply struct {
	Elapsed       time.Duration
	Done, Failed  int // Failed is part of Done
	P50, P99, Max time.Duration
	Streamed      float64 // bytes per second of all streams
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
	allowThreads(len(generators))
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

// newGenerators divides a job between as many threads as it can use, first those of the clients. Streams have others: what a client
// waits must not have in it what this process reads of them.
func newGenerators(j job) ([]*generator, error) {
	clients := max(1, min(j.Threads, max(j.Held, j.Short)))
	if j.Every > 0 {
		clients = 1 // one keeps the pace
	}
	streamers := min(max(1, j.Threads), j.Streams)
	var parts []job
	for i := range clients {
		part := j
		part.Held = share(j.Held, i, clients)
		part.InFlight = share(j.InFlight, i, clients)
		part.Short = share(j.Short, i, clients)
		part.Streams = 0
		parts = append(parts, part)
	}
	for i := range streamers {
		parts = append(parts, job{Target: j.Target, Streams: share(j.Streams, i, streamers), CheckAll: j.CheckAll})
	}
	var generators []*generator
	for i, part := range parts {
		l, err := newLoop()
		if err != nil {
			return nil, err
		}
		generators = append(generators, &generator{loop: l, job: part, sessions: map[int]*session{}, position: uint64(i) * 104729})
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

// runStep has all generators do a step, each in its thread, and adds up what they measured. Streams go on until the clients are done.
func runStep(generators []*generator, s step) reply {
	clients := 0
	for _, g := range generators {
		if !g.streams() {
			clients++
		}
	}
	var running, streaming sync.WaitGroup
	var over atomic.Bool
	for i, g := range generators {
		wg, part := &running, step{Do: s.Do, Count: share(s.Count, i, clients), Time: s.Time}
		if g.streams() {
			wg = &streaming
		}
		wg.Go(func() {
			defer lockThread()()
			g.do(part, &over)
		})
	}
	running.Wait()
	over.Store(true)
	streaming.Wait()
	var sum histogram
	var r reply
	for _, g := range generators {
		sum.merge(&g.latencies)
		r.Elapsed = max(r.Elapsed, g.elapsed)
		r.Done += g.done
		r.Failed += g.failed
		r.Streamed += g.streamed
		if g.err != nil {
			r.Err = g.err.Error()
		}
	}
	r.P50, r.P99, r.Max = sum.quantile(0.50), sum.quantile(0.99), sum.max
	return r
}

// allowThreads lets so many loops run at the same time, however few CPUs there are: the scheduler does not see that one waits in a raw
// system call, so the others would wait for it. Only the kernel divides the CPUs.
func allowThreads(loops int) {
	runtime.GOMAXPROCS(max(runtime.NumCPU(), loops+1))
}

// lockThread keeps the goroutine on its thread until the function that it returns is called.
func lockThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
