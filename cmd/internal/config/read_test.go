package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}

// deadline fails a test that hangs.
func deadline(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { panic(t.Name() + " hangs") })
	t.Cleanup(func() { timer.Stop() })
}

// A configuration is read once, wherever it comes from, and its digest is that of the
// bytes that were read.
func TestReadOnce(t *testing.T) {
	deadline(t)
	for _, how := range []string{"file", "fifo", "late fifo", "pipe"} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sluice.toml")
			write := func() {
				if err := os.WriteFile(path, []byte(smallFile), 0o644); err != nil {
					t.Error(err)
				}
			}
			written := make(chan struct{})
			switch how {
			case "file":
				write()
				close(written)
			case "fifo", "late fifo":
				if err := syscall.Mkfifo(path, 0o600); err != nil {
					t.Fatal(err)
				}
				go func() {
					defer close(written)
					if how == "late fifo" {
						time.Sleep(5 * retryFIFO) // it is late: nothing to wait for
					}
					write()
				}()
			case "pipe":
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				path = fmt.Sprintf("/dev/fd/%d", r.Fd())
				go func() {
					defer close(written)
					defer w.Close()
					w.WriteString(smallFile)
				}()
			}
			s := sourceOf(t, nil, "-c", path, "--acceptors", "3")
			c, digest, err := s.Read()
			<-written
			if err != nil || digest != sha(smallFile) || c.Acceptors.Count != 3 {
				t.Fatalf("%+v, digest %q, %v", c, digest, err)
			}
			switch err := s.Again(); {
			case how == "file" && err != nil:
				t.Error(err)
			case how != "file" && (err == nil || err.Error() != path+" is a pipe, whose contents can be read only once"):
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestReadNothing(t *testing.T) {
	deadline(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	silent := "is a pipe, and nobody has written to it and closed it within 50ms"
	for path, want := range map[string]string{
		fifo:                               silent,
		fmt.Sprintf("/dev/fd/%d", r.Fd()):  silent,
		t.TempDir():                        "is a directory",
		"/dev/null":                        "is a device or a terminal, not a file or a pipe",
		filepath.Join(t.TempDir(), "none"): "no such file or directory",
	} {
		if _, err := readFile(path, 50*time.Millisecond); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	w.Close()
	if data, err := readFile(fmt.Sprintf("/dev/fd/%d", r.Fd()), time.Minute); err != nil || len(data) > 0 {
		t.Errorf("an empty pipe: %q, %v", data, err)
	}
}

// Some programs give those that they start a socket for stdin.
func TestReadSocket(t *testing.T) {
	deadline(t)
	for _, ends := range []bool{true, false} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(fds[0]), "stdin"), os.NewFile(uintptr(fds[1]), "parent")
		theirs.WriteString("text")
		if ends {
			theirs.Close()
		}
		data, err := readSocket(ours, 50*time.Millisecond)
		if ends && (err != nil || string(data) != "text") {
			t.Errorf("%q, %v", data, err)
		}
		if !ends && (err == nil || err.Error() != "is a socket, and nobody has written to it and closed it within 50ms") {
			t.Errorf("without an end: %v", err)
		}
		ours.Close()
		theirs.Close()
	}
}

func TestReadTooMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(maxFile + 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(path, nil); err == nil || err.Error() != path+": is larger than 16 MiB, so it is no configuration" {
		t.Error(err)
	}
}

// A service as large as can be is read in a moment, and one larger is refused.
func TestLargest(t *testing.T) {
	file := func(listeners, pools, backends int) string {
		var b strings.Builder
		for i := range listeners {
			fmt.Fprintf(&b, "[listener.l%d]\nbind = \"127.0.0.1:%d\"\npool = \"p%d\"\n", i, 1+i, i%pools)
		}
		for i := range pools {
			fmt.Fprintf(&b, "[pool.p%d]\nbackends = [", i)
			if i == 0 {
				for j := range backends - pools + 1 {
					fmt.Fprintf(&b, `"10.0.%d.%d:80", `, j/256, j%256)
				}
			} else {
				b.WriteString(`"10.1.0.1:80"`)
			}
			b.WriteString("]\n")
		}
		return b.String()
	}
	start := time.Now()
	c, err := Parse("large", []byte(file(maxListeners, maxPools, maxBackends)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Minute { // below 1 s alone, 20 s beside others under the race detector; minutes if places were counted anew for each backend
		t.Errorf("reading took %v", took)
	}
	if n := len(Diff(c, c)); n != 0 {
		t.Errorf("%d changes", n)
	}
	for _, test := range []struct {
		listeners, pools, backends int
		want                       string
	}{
		{maxListeners + 1, 1, 1, "large:12289:11: listener.l4096: is one too many of 4097: at most 4096 are possible"},
		{1, maxPools + 1, maxPools + 1, "large:8196:7: pool.p4096: is one too many of 4097: at most 4096 are possible"},
		{1, 2, maxBackends + 1, "large:7:1: pool.p1.backends: brings all pools together to 65537 backends: at most 65536 are possible"},
	} {
		if _, err := Parse("large", []byte(file(test.listeners, test.pools, test.backends)), nil); err == nil || err.Error() != test.want {
			t.Errorf("got  %.300v\nwant %s", err, test.want)
		}
	}
}
