package listener

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unixDir is a directory whose paths are short enough for a socket.
func unixDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "l")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// openedAt opens a group and has it listen.
func openedAt(t *testing.T, o Options) *Group {
	t.Helper()
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	return g
}

func connects(address string) error {
	c, err := net.DialTimeout("unix", strings.TrimPrefix(address, unixPrefix), 5*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// All seats have one queue, which the first one shows; seats come and go without an end of
// the socket, and its file goes with the last.
func TestUnixGroup(t *testing.T) {
	for _, address := range []string{"unix:" + filepath.Join(unixDir(t), "web.sock"), "unix:@sluice-test-" + filepath.Base(unixDir(t))} {
		t.Run(address, func(t *testing.T) {
			g, err := Open(Options{Address: address, Seats: []int{1, 3}, Backlog: 5})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if err := connects(address); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("before Listen: %v", err)
			}
			if err := g.Listen(); err != nil {
				t.Fatal(err)
			}
			if !g.Unix() || g.Address() != address || g.Len() != 2 || g.Addr().IsValid() {
				t.Errorf("it is %v %q %d %v", g.Unix(), g.Address(), g.Len(), g.Addr())
			}
			for range 2 {
				if err := connects(address); err != nil {
					t.Fatal(err)
				}
			}
			if q, ok := g.Queue(1); !ok || q != (Queue{Length: 2, Limit: 5}) {
				t.Errorf("the queue is %+v, %v", q, ok)
			}
			if q, ok := g.Queue(3); ok {
				t.Errorf("the second seat has %+v", q)
			}
			if err := g.Adjust(Options{Address: address, Backlog: 7}); err != nil {
				t.Error(err)
			}
			if q, _ := g.Queue(1); q.Limit != 7 {
				t.Errorf("adjusted to %+v", q)
			}
			if err := errors.Join(g.Add(0), g.Listen(), g.Remove(1)); err != nil {
				t.Fatal(err)
			}
			for n := 0; ; n++ {
				fd, _, err := unix.Accept(g.FD(3))
				if err != nil {
					if n != 2 || err != unix.EAGAIN {
						t.Errorf("%d accepted, %v", n, err)
					}
					break
				}
				unix.Close(fd)
			}
			held, err := duplicate(g.FD(0)) // as a worker does
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(held)
			if err := g.Stop(g.Seats()...); err != nil {
				t.Error(err)
			}
			if err := connects(address); err == nil {
				t.Error("somebody answers after the last seat's end")
			}
			if path := strings.TrimPrefix(address, unixPrefix); path[0] == '/' {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("its file: %v", err)
				}
			}
		})
	}
}

// A second group of the process takes the socket over, with all that waits and the file.
func TestUnixGroupBeside(t *testing.T) {
	path := filepath.Join(unixDir(t), "web.sock")
	o := Options{Address: "unix:" + path}
	old := openedAt(t, o)
	inode := inodeOf(t, path)
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "another process listens there: pid ") {
		t.Errorf("without Beside: %v", err)
	}
	refused, err := Open(Options{Address: o.Address, Beside: []*Group{old}}) // a reload that fails takes nothing along
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	if err := connects(o.Address); err != nil {
		t.Fatal(err)
	}
	o.Beside, o.Rights = []*Group{old}, Rights{Mode: 0o600}
	next := openedAt(t, o)
	old.Withdraw()
	if err := errors.Join(old.Stop(0), old.Close()); err != nil {
		t.Error(err)
	}
	if err := connects(o.Address); err != nil {
		t.Error(err)
	}
	if got := inodeOf(t, path); got != inode {
		t.Errorf("inode %d became %d", inode, got)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if q, ok := next.Queue(0); !ok || q.Length != 3 { // one is of the probe whether a process listens
		t.Errorf("%+v", q)
	}
	next.Withdraw()
	if err := connects(o.Address); !errors.Is(err, unix.ENOENT) {
		t.Errorf("after Withdraw: %v", err)
	}
	again := openedAt(t, Options{Address: o.Address, Beside: []*Group{next}}) // one that no client can come to is not taken over
	next.Close()
	if err := connects(again.Address()); err != nil {
		t.Error(err)
	}
}

// What stands in the way: a live socket is not replaced, and nothing else is ever removed.
func TestUnixGroupInTheWay(t *testing.T) {
	dir := unixDir(t)
	stale, file, link := filepath.Join(dir, "stale"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Symlink(stale, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                          "a file that is no socket is there",
		link:                          "a file that is no socket is there",
		filepath.Join(dir, "no", "x"): "no such file or directory",
		filepath.Join(file, "x"):      "not a directory",
		"/proc/sluice.sock":           "bind: ",
	} {
		if g, err := Open(Options{Address: "unix:" + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
			g.Close()
		}
	}
	if _, err := Open(Options{Address: "unix:" + stale, Rights: Rights{User: "no-such-user"}}); err == nil || !strings.Contains(err.Error(), `no user "no-such-user"`) {
		t.Errorf("an unknown user: %v", err)
	}
	g := openedAt(t, Options{Address: "unix:" + stale})
	if info, err := os.Lstat(stale); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("%v, %v", info, err)
	}
	// Another file is put in its place: that stays.
	if err := errors.Join(os.Remove(stale), os.WriteFile(stale, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := g.Adjust(Options{Address: "unix:" + stale, Rights: Rights{Mode: 0o666}}); err == nil || !strings.Contains(err.Error(), "another's by now") {
		t.Errorf("rights of another's file: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(stale); err != nil || info.Mode() != 0o600 {
		t.Errorf("the other file: %v, %v", info, err)
	}
}

// Where the kernel's diagnosis does not know a socket, that a client waits is seen all the same.
func TestUnixQueueOf(t *testing.T) {
	if _, err := QueueOf(mustSocket(t)); err == nil {
		t.Error("a socket that does not listen has a queue")
	}
	g := openedAt(t, Options{Address: "unix:@sluice-queue-" + filepath.Base(unixDir(t))})
	for n := range 3 {
		if q, err := QueueOf(g.FD(0)); err != nil || q.Length != n {
			t.Errorf("%+v, %v; want %d", q, err, n)
		}
		if err := connects(g.Address()); err != nil {
			t.Fatal(err)
		}
	}
}

func mustSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
