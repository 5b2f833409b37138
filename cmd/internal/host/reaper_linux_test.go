package host

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Burying orphans takes no exit status of a command away, however soon it ends. Another
// process does it here: all children of this one would be looked at.
func TestCommandsAreNotBuried(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "bury").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func bury() {
	r, done := newReaper(), make(chan error)
	for range 4 {
		go func() {
			var err error
			for range 15 {
				cmd := exec.Command("/bin/sh", "-c", "exit 7")
				if e := r.Run(cmd); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 7 {
					err = e
				}
			}
			done <- err
		}()
	}
	for n := 0; n < 4; {
		r.reap()
		select {
		case err := <-done:
			n++
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		default:
		}
	}
	if err := r.Run(exec.Command("/no/such/command")); err == nil || len(r.workers) > 0 {
		fmt.Println(err, r.workers)
		os.Exit(1)
	}
	os.Exit(0)
}
