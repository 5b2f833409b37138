package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// followedFiles are Files under test, with their log.
type followedFiles struct {
	*Files
	t   *testing.T
	log safeBuffer
}

func (f *followedFiles) logged(text string) int { return strings.Count(f.log.String(), text) }

func newFollowed(t *testing.T) *followedFiles {
	f := &followedFiles{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	f.Files = NewFiles(ctx, slog.New(slog.NewTextHandler(&f.log, nil)))
	t.Cleanup(func() {
		cancel()
		f.Wait()
		goleak.VerifyNone(t, goleak.IgnoreCurrent())
	})
	return f
}

// words is a file of words, of which "bad" is none.
func words(path string) FileWanted {
	return FileWanted{FileKey: FileKey{"words", path}, Parse: func(data []byte) (any, int, error) {
		all := strings.Fields(string(data))
		for i, w := range all {
			if w == "bad" {
				return nil, 0, fmt.Errorf("word %d is bad", i+1)
			}
		}
		if len(all) == 0 {
			return nil, 0, errors.New("no words")
		}
		return strings.Join(all, " "), len(all), nil
	}}
}

func (f *followedFiles) expect(path, want string) {
	f.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got, _ := f.Contents(FileKey{"words", path}).(string)
		if got == want {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("contents are %q, want %q", got, want)
		}
	}
}

// expectFaults waits for a number of faults.
func (f *followedFiles) expectFaults(want uint64) {
	f.t.Helper()
	for end := time.Now().Add(patience); f.Facts()[0].Faults != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%+v, want %d faults", f.Facts()[0], want)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A file that is missing comes; a good one replaces it, a bad one does not, and a good one
// ends that.
func TestFiles(t *testing.T) {
	f, path := newFollowed(t), filepath.Join(t.TempDir(), "words")
	f.Want([]FileWanted{words(path)})
	if got := f.Facts(); len(got) != 1 || got[0].OK || got[0].Faults != 1 || f.Contents(FileKey{"words", path}) != nil {
		t.Fatalf("missing: %+v", got)
	}
	put(t, path, "one")
	f.expect(path, "one")
	<-f.Changed()
	put(t, path, "one bad")
	f.expectFaults(2)
	f.expect(path, "one")
	f.Again() // the same fault is logged and counted once
	if got := f.Facts()[0]; got.Faults != 2 || got.OK || got.Entries != 1 || got.Fault != "word 2 is bad" {
		t.Errorf("bad: %+v", got)
	}
	put(t, path, "one two")
	f.expect(path, "one two")
	if got := f.Facts()[0]; !got.OK || got.Entries != 2 || got.Fault != "" {
		t.Errorf("good again: %+v", got)
	}
	if n := f.logged("a file is not taken"); n != 2 {
		t.Errorf("%d complaints, want 2:\n%s", n, f.log.String())
	}
}

// The same contents under another name, or written again, are no change.
func TestFilesSameAgain(t *testing.T) {
	f, path := newFollowed(t), filepath.Join(t.TempDir(), "words")
	put(t, path, "one")
	f.Want([]FileWanted{words(path)})
	<-f.Changed()
	put(t, path, "one")
	f.Again()
	select {
	case <-f.Changed():
		t.Error("nothing has changed")
	case <-time.After(2 * settle):
	}
	put(t, path, "bad")
	f.expectFaults(1)
	put(t, path, "one") // and back: it is good again, and the same
	for end := time.Now().Add(patience); !f.Facts()[0].OK; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not good again")
		}
	}
	f.expect(path, "one")
}

// What is not wanted any more is forgotten, and its watch ends; what is wanted twice is
// read once.
func TestFilesForget(t *testing.T) {
	f, dir := newFollowed(t), t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	put(t, a, "one")
	put(t, b, "two")
	f.Want([]FileWanted{words(a), words(b), words(a)})
	if got := f.Facts(); len(got) != 2 || got[0].Path != a || got[1].Path != b {
		t.Errorf("%+v", got)
	}
	f.Want([]FileWanted{words(b)})
	if got := f.Facts(); len(got) != 1 || got[0].Path != b || f.Contents(FileKey{"words", a}) != nil {
		t.Errorf("%+v", got)
	}
	f.Want(nil)
	f.Wait() // no watch is left
}

func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{dir: "is no regular file", os.DevNull: "is no regular file", filepath.Join(dir, "none"): "no such file or directory"} {
		if _, err := ReadRegular(path); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
