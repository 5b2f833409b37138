package main

import (
	"testing"
	"time"
)

// What a proxy uses at rest is its share of the time: nearly nothing of one that waits, nearly a CPU of one that spins.
func TestRest(t *testing.T) {
	deadline(t, 30*time.Second)
	j := job{Held: 20, InFlight: 5, Request: request{Down: 64}, CheckAll: true}
	c := &benchCase{job: j, lasts: 500 * time.Millisecond}
	r := testRig(t, "go", j, 1)
	f, err := measureRest(r, c)
	if err != nil {
		t.Fatal(err)
	}
	if f["share"] > 0.05 {
		t.Errorf("a proxy that waits used %.3f of a CPU", f["share"])
	}
	spinning, err := startProgram(program{path: "/bin/sh", args: []string{"-c", "while :; do :; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer spinning.stop()
	r = testRig(t, "go", job{}, 1)
	r.proxy, c.job = spinning, job{}
	if f, err = measureRest(r, c); err != nil {
		t.Fatal(err)
	}
	if f["share"] < 0.06 || f["share"] > 1.05 { // other work may share the CPU
		t.Errorf("a program that spins used %.3f of a CPU", f["share"])
	}
}
