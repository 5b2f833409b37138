package netns

import (
	"errors"
	"fmt"
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

// networkOf is the number of the namespace in which a socket is.
func networkOf(t *testing.T, fd int) uint64 {
	t.Helper()
	at, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
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
	held, err := Open(path)
	if err != nil || held == nil || held.Number != Number(path) || fmt.Sprintf("net:[%d]", held.Number) != there {
		t.Fatalf("%+v, %v; its number is %d", held, err, Number(path))
	}
	if name := network(t); name != here {
		t.Errorf("after Open in %s, want %s", name, here)
	}
	for _, kind := range [][3]int{{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, {unix.AF_INET6, unix.SOCK_STREAM, 0}, {unix.AF_UNIX, unix.SOCK_STREAM, 0}} {
		fd, err := unix.Socket(kind[0], kind[1], kind[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Move(fd); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); domain != kind[0] {
			t.Errorf("%v became one of domain %d", kind, domain)
		}
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%v: commands would inherit it", kind)
		}
		if got := networkOf(t, fd); got != held.Number {
			t.Errorf("%v is in %d, want %d", kind, got, held.Number)
		}
		unix.Close(fd)
	}
	if err := held.Move(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
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
	for path, want := range map[string]error{"": nil, own: nil, "/run/netns/no such": syscall.ENOENT, "/proc/self/status": syscall.EINVAL} {
		n, err := Open(path)
		if n != nil || Number(path) != 0 && want == nil || !errors.Is(err, want) && !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s: %+v, %v, %d", path, n, err, Number(path))
		}
	}
	var none *Namespace
	if err := errors.Join(none.Move(-1), none.Within(func() error { return nil })); err != nil {
		t.Error(err)
	}
	if err := Within("/proc/self/ns/uts", never); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}
