package netns

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// network names the namespace of the calling thread.
func network(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// What is done within a namespace is done there, and no other thread is there afterwards.
func TestWithin(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	here, ready, end := network(t), make(chan string), make(chan struct{})
	defer close(end)
	go func() { // a thread that keeps one, and ends with it
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- ""
			return
		}
		path, _ := os.Readlink("/proc/thread-self")
		ready <- "/proc/" + path + "/ns/net"
		<-end
	}()
	path := <-ready
	if path == "" {
		t.Skip("may not make a network namespace")
	}
	there, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	for range 10 {
		if err := Within(path, func() error {
			if got := network(t); got != there || got == here {
				t.Errorf("done in %s, want %s", got, there)
			}
			return fault
		}); err != fault {
			t.Errorf("returned %v", err)
		}
		if got := network(t); got != here {
			t.Errorf("back in %s, want %s", got, here)
		}
	}
}

// A path of "" is no other thread; one that leads nowhere, or to something else, is named.
func TestWithinNone(t *testing.T) {
	if err := Within("", func() error { return nil }); err != nil {
		t.Error(err)
	}
	never := func() error { t.Error("it was done"); return nil }
	if err := Within("/run/netns/no such", never); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if err := Within("/proc/self/ns/uts", never); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}
