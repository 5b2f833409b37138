package main

import (
	"net"
	"testing"
	"time"
)

// A step that lasts a time begins nothing after it, at the pace of the job, and streams go on beside it.
func TestTimedSteps(t *testing.T) {
	const lasts, every = 300 * time.Millisecond, 10 * time.Millisecond
	const most = int(lasts/every) + 1
	small := request{Down: 64}
	for _, c := range []struct {
		name string
		job  job
		most int // 0: as many as the machine can do
	}{
		{"short at a pace", job{Short: 50, Every: every, Request: small}, most},
		{"short at a pace beside streams", job{Short: 50, Every: every, Streams: 3, Request: small}, most},
		{"held with pauses beside streams", job{Held: 4, InFlight: 4, Every: every, Streams: 3, Request: small}, most},
		{"held without pauses", job{Held: 4, InFlight: 4, Request: small}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			deadline(t, 30*time.Second)
			c.job.CheckAll = true
			r := testRig(t, "go", c.job, 2)
			if _, err := r.do(step{Do: "open"}); err != nil {
				t.Fatal(err)
			}
			got, err := r.do(step{Do: "run", Time: lasts})
			if err != nil {
				t.Fatal(err)
			}
			if c.most > 0 && got.Done > c.most || c.most == 0 && got.Done <= most || got.Done < 2 || got.Failed > 0 {
				t.Errorf("%d done, %d failed, want about %d", got.Done, got.Failed, c.most)
			}
			if (got.Streamed > 0) != (c.job.Streams > 0) {
				t.Errorf("%g bytes per second streamed", got.Streamed)
			}
		})
	}
}

// At a pace sessions begin whatever has become of those before: that none gets an answer delays no
// other.
func TestPaceDoesNotWait(t *testing.T) {
	deadline(t, 30*time.Second)
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // accepts in the kernel only
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	const patience = time.Second
	generators, err := newGenerators(job{
		Target: silent.Addr().(*net.TCPAddr).AddrPort(), Short: 50, Every: 10 * time.Millisecond, Request: request{Down: 64}, Patience: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := runStep(generators, step{Do: "run", Time: 200 * time.Millisecond})
	if got.Err != "" || got.Failed != got.Done || got.Done < 2 || got.P50 != patience {
		t.Errorf("got %+v, want all failed", got)
	}
	if got.Elapsed >= 2*patience { // one after the other they take a second each
		t.Errorf("%d sessions took %v", got.Done, got.Elapsed)
	}
}
