package listener

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dup copies a descriptor as exec and SCM_RIGHTS do: without close-on-exec.
func dup(t *testing.T, fd int) int {
	t.Helper()
	d, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAdopt(t *testing.T) {
	g := live(t, Options{Address: "[::]:0", Seats: seats(3), Backlog: 9})
	fds := []int{dup(t, g.FD(0)), dup(t, g.FD(1)), dup(t, g.FD(2))}
	heir, err := Adopt(fds)
	if err != nil {
		t.Fatal(err)
	}
	if heir.Addr() != g.Addr() || heir.Len() != 3 || heir.Backlog() != 9 {
		t.Errorf("adopted %d sockets on %s, backlog %d", heir.Len(), heir.Addr(), heir.Backlog())
	}
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v: want close-on-exec", flags, err)
	}
	mustDial(t, at(g, "127.0.0.1")) // waits in a queue while its first owner goes
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	accept(t, heir)
	if err := heir.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	g := live(t, Options{Address: "127.0.0.1:0"})
	other := live(t, Options{Address: "127.0.0.1:0"})
	idle, err := Open(Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	datagram, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(datagram)
	plain := live(t, Options{Address: "127.0.0.1:0"})
	if err := unix.SetsockoptInt(plain.FD(0), unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
		t.Fatal(err)
	}
	again := dup(t, g.FD(0))
	defer unix.Close(again)

	for _, test := range []struct {
		fds  []int
		want string
	}{
		{nil, "no sockets"},
		{[]int{-1}, "bad file descriptor"},
		{[]int{datagram}, "not a stream socket"},
		{[]int{idle.FD(0)}, "not listening"},
		{[]int{plain.FD(0)}, "SO_REUSEPORT is not set"},
		{[]int{g.FD(0), other.FD(0)}, "the first one to"},
		{[]int{g.FD(0), again}, "the same socket"},
	} {
		if _, err := Adopt(test.fds); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("adopt %v: %v, want %q", test.fds, err, test.want)
		}
	}
}
