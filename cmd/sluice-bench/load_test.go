package main

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// deadline fails a test that hangs, with the stacks.
func deadline(t *testing.T, limit time.Duration) {
	timer := time.AfterFunc(limit, func() { panic(t.Name() + ": not done in " + limit.String()) })
	t.Cleanup(func() { timer.Stop() })
}

// jobs has one of each kind; every byte is compared.
var jobs = []struct {
	name  string
	job   job
	count int
}{
	{"kept", job{Held: 20, InFlight: 7, Request: request{Down: 64}}, 300},
	{"kept, large answers", job{Held: 5, InFlight: 5, Request: request{Down: 300_001}}, 50},
	{"short", job{Short: 8, Request: request{Down: 64}}, 200},
	{"greeting", job{Short: 8, Request: request{Down: 64}, Greeting: true}, 200},
	{"download", job{Held: 2, InFlight: 2, Request: request{Down: 5 << 20}}, 6},
	{"upload", job{Held: 2, InFlight: 2, Request: request{Up: 5 << 20, Down: 64}}, 6},
	{"both ways", job{Held: 2, InFlight: 2, Request: request{Up: 5 << 20, Down: 5<<20 + 7}}, 6},
	{"short beside streams", job{Short: 2, Streams: 3, Request: request{Down: 64}}, 50},
}

// Each kind of job must be done to its last byte, directly and through the Go proxy, with one thread and with two. -short leaves out one.
func TestJobs(t *testing.T) {
	for _, name := range []string{direct, "go"} {
		for _, threads := range []int{1, 2} {
			if threads == 1 && testing.Short() {
				continue
			}
			for _, j := range jobs {
				t.Run(name+"/"+j.name+"/"+plural(threads, "thread"), func(t *testing.T) {
					deadline(t, 30*time.Second)
					j.job.CheckAll = true
					r := testRig(t, name, j.job, threads)
					if _, err := r.do(step{Do: "open"}); err != nil {
						t.Fatal(err)
					}
					if err := r.awaitHeld(j.job.Held + j.job.Streams); err != nil {
						t.Fatal(err)
					}
					got, err := r.do(step{Do: "run", Count: j.count})
					if err != nil {
						t.Fatal(err)
					}
					if got.P50 <= 0 || got.P50 > got.P99 || got.P99 > got.Max || got.Elapsed < got.Max || got.Failed > 0 {
						t.Errorf("impossible figures: %+v", got)
					}
					if _, err := r.do(step{Do: "close"}); err != nil {
						t.Fatal(err)
					}
					if err := r.awaitHeld(0); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
}

func testRig(t *testing.T, name string, j job, threads int) *rig {
	t.Helper()
	c := benchCase{job: j, acceptors: 2, proxy: proxyNamed(name)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := startRig(t.Context(), &c, self, mostFiles, t.TempDir(), threads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// A proxy that changes, drops, adds or cuts bytes must fail the run, whichever way they go.
func TestWrongBytesFailTheRun(t *testing.T) {
	const at = 100_000 // into the stream
	for _, c := range []struct {
		name  string
		spoil func(chunk []byte, position int) []byte
		want  string
	}{
		{"changed", func(p []byte, position int) []byte {
			if i := at - position; i >= 0 && i < len(p) {
				p[i]++
			}
			return p
		}, "differ"},
		{"dropped", func(p []byte, position int) []byte {
			if position <= at && at < position+len(p) {
				return p[1:]
			}
			return p
		}, "differ"},
		{"cut", func(p []byte, position int) []byte {
			if position > at {
				return nil
			}
			return p
		}, "ended the connection"},
	} {
		for _, way := range []string{"down", "up"} {
			t.Run(c.name+" "+way, func(t *testing.T) {
				deadline(t, 30*time.Second)
				j := job{Held: 1, InFlight: 1, Request: request{Down: 1 << 20}, CheckAll: true}
				if way == "up" {
					j.Request = request{Up: 1 << 20, Down: 64}
				}
				backend, back, err := startBackend(backendOrder{Threads: 1, CheckAll: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(backend.stop)
				j.Target = spoilingProxy(t, back, way, c.spoil)
				generators, err := newGenerators(j)
				if err != nil {
					t.Fatal(err)
				}
				if r := runStep(generators, step{Do: "open"}); r.Err != "" {
					t.Fatal(r.Err)
				}
				got := runStep(generators, step{Do: "run", Count: 1})
				runStep(generators, step{Do: "close"})
				if got.Err == "" {
					t.Fatal("the run succeeded")
				}
				if said := got.Err + backend.said.indented(); way == "down" && !strings.Contains(said, c.want) {
					t.Errorf("error %q, want one with %q", said, c.want)
				}
			})
		}
	}
}

// spoilingProxy relays one session and spoils one way; an empty chunk ends the session.
func spoilingProxy(t *testing.T, back netip.AddrPort, way string, spoil func([]byte, int) []byte) netip.AddrPort {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	running.Go(func() {
		client, err := listener.Accept()
		listener.Close()
		if err != nil {
			return
		}
		defer client.Close()
		backend, err := net.Dial("tcp", back.String())
		if err != nil {
			return
		}
		defer backend.Close()
		from, to := backend, client // the spoiled way
		if way == "up" {
			from, to = client, backend
		}
		running.Go(func() {
			io.Copy(from, to)
			from.Close()
		})
		buf := make([]byte, 32<<10)
		for position := 0; ; {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			p := spoil(buf[:n], position)
			if _, err := to.Write(p); err != nil || len(p) == 0 {
				return
			}
			position += n
		}
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// Sessions that get no answer use up the patience and are counted, they do not end the step.
func TestPatience(t *testing.T) {
	deadline(t, 30*time.Second)
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // accepts in the kernel only
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	target := silent.Addr().(*net.TCPAddr).AddrPort()
	const patience = 200 * time.Millisecond
	generators, err := newGenerators(job{Target: target, Short: 5, Request: request{Down: 64}, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	got := runStep(generators, step{Do: "run", Count: 10})
	if got.Err != "" || got.Failed != 10 || got.P50 != patience || got.Elapsed < 2*patience {
		t.Errorf("got %+v, want 10 failed, each with %v, in two turns", got, patience)
	}
	silent.Close()
	refused := runStep(generators, step{Do: "run", Count: 3})
	if refused.Err != "" || refused.Failed != 3 {
		t.Errorf("nobody listens: got %+v, want 3 failed", refused)
	}
	generators[0].job.Patience = 0
	if got := runStep(generators, step{Do: "run", Count: 1}); !strings.Contains(got.Err, "refused") {
		t.Errorf("nobody listens and no patience: error %q", got.Err)
	}
}
