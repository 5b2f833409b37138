package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The bench makes a network for itself, in a process of its own here: it keeps the thread that it does so with.
func TestOwnNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	deadline(t, time.Minute)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "_bench", "-smoke", "-proxies", "sluice", "-cases", "kept-1-64B|balance-16|sick-refusing|checks-1000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"TCP reno.", "kept-1-64B", "balance-16", "sick-refusing", "checks-1000"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
