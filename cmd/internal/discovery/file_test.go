package discovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds what should happen in much less.
const patience = 20 * time.Second

// watched is a Watch under test.
type watched struct {
	t       *testing.T
	changed chan struct{}
	noted   chan string
	end     func() // ends the Watch and waits for it
}

// refused is a kernel that has no instance to spare.
func refused(string) (*events, error) { return nil, errors.New("too many open files") }

func watch(t *testing.T, f File, open func(string) (*events, error)) *watched {
	t.Helper()
	w := &watched{t: t, changed: make(chan struct{}, 100), noted: make(chan string, 100)}
	f.Changed = func() { w.changed <- struct{}{} }
	f.Note = func(text string) { w.noted <- text }
	ctx, cancel := context.WithCancel(t.Context())
	ended, armed := make(chan struct{}), make(chan struct{}, 100)
	go func() {
		defer close(ended)
		f.watch(ctx, func(path string) (*events, error) {
			e, err := open(path)
			armed <- struct{}{}
			return e, err
		}, settle/4)
	}()
	w.end = func() {
		cancel()
		w.await(ended, "the end")
	}
	w.await(armed, "the first watch")
	t.Cleanup(w.end)
	return w
}

func (w *watched) await(c <-chan struct{}, what string) {
	w.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		w.t.Fatalf("waited in vain for %s", what)
	}
}

// told waits until a change is told, and fails if there are two.
func (w *watched) told(after string) {
	w.t.Helper()
	w.await(w.changed, "a change after "+after)
	if n := len(w.changed); n > 0 {
		w.t.Errorf("%s was told %d times", after, n+1)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ways are what can happen to a file in dir, reached by path; each step makes other
// contents.
var ways = []struct {
	name  string
	path  string
	setUp func(t *testing.T, dir string)
	steps []func(t *testing.T, dir string)
}{
	{
		"written to", "f", func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
		[]func(*testing.T, string){
			func(t *testing.T, dir string) { write(t, dir+"/f", "2") },
			func(t *testing.T, dir string) { write(t, dir+"/f", "3") }, // of the same size
		},
	},
	{
		"renamed over", "f", func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
		[]func(*testing.T, string){
			func(t *testing.T, dir string) { write(t, dir+"/n", "2"); must(t, os.Rename(dir+"/n", dir+"/f")) },
			func(t *testing.T, dir string) { write(t, dir+"/n", "3"); must(t, os.Rename(dir+"/n", dir+"/f")) },
			func(t *testing.T, dir string) { write(t, dir+"/f", "4") },
		},
	},
	{
		"as Kubernetes does", "f", func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/..1", 0o755))
			write(t, dir+"/..1/f", "1")
			must(t, os.Symlink("..1", dir+"/..data"))
			must(t, os.Symlink("..data/f", dir+"/f"))
		},
		[]func(*testing.T, string){
			func(t *testing.T, dir string) { swap(t, dir, "2") },
			func(t *testing.T, dir string) { swap(t, dir, "3") },
			func(t *testing.T, dir string) { write(t, dir+"/..3/f", "4") },
		},
	},
	{
		"directory exchanged", "d/f", func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/d", 0o755))
			write(t, dir+"/d/f", "1")
		},
		[]func(*testing.T, string){
			func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/n", 0o755))
				write(t, dir+"/n/f", "2")
				must(t, os.Rename(dir+"/d", dir+"/old"))
				must(t, os.Rename(dir+"/n", dir+"/d"))
			},
			func(t *testing.T, dir string) { write(t, dir+"/d/f", "3") },
			func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir+"/d"))
				must(t, os.MkdirAll(dir+"/d", 0o755))
				write(t, dir+"/d/f", "4")
			},
			func(t *testing.T, dir string) { write(t, dir+"/d/f", "5") },
		},
	},
	{
		"release by link", "now/f", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/r/1", 0o755))
			write(t, dir+"/r/1/f", "1")
			must(t, os.Symlink(dir+"/r/1", dir+"/now"))
		},
		[]func(*testing.T, string){
			func(t *testing.T, dir string) {
				must(t, os.MkdirAll(dir+"/r/2", 0o755))
				write(t, dir+"/r/2/f", "2")
				must(t, os.Symlink("r/2", dir+"/next"))
				must(t, os.Rename(dir+"/next", dir+"/now"))
			},
			func(t *testing.T, dir string) { write(t, dir+"/r/2/f", "3") },
		},
	},
	{
		"there at last", "a/b/f", func(*testing.T, string) {},
		[]func(*testing.T, string){
			func(t *testing.T, dir string) {
				must(t, os.MkdirAll(dir+"/a/b", 0o755))
				write(t, dir+"/a/b/f", "1")
			},
			func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir+"/a"))
				must(t, os.MkdirAll(dir+"/a/b", 0o755))
				write(t, dir+"/a/b/f", "2")
			},
		},
	},
}

// swap puts a new directory in force as the kubelet does: all its files at once.
func swap(t *testing.T, dir, text string) {
	t.Helper()
	must(t, os.Mkdir(dir+"/.."+text, 0o755))
	write(t, dir+"/.."+text+"/f", text)
	must(t, os.Symlink(".."+text, dir+"/..data_tmp"))
	must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
}

func TestWatch(t *testing.T) {
	for how, open := range map[string]func(string) (*events, error){"events": newEvents, "looks": refused} {
		for _, way := range ways {
			t.Run(how+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				way.setUp(t, dir)
				w := watch(t, File{Path: filepath.Join(dir, way.path), Digest: "none"}, open)
				if _, err := os.Stat(filepath.Join(dir, way.path)); err == nil {
					w.told("the start") // with other contents than the caller had
				}
				for i, step := range way.steps {
					step(t, dir)
					w.told("step " + string(rune('1'+i)))
				}
				switch w.end(); {
				case how == "events" && len(w.noted) > 0:
					t.Errorf("noted: %s", <-w.noted)
				case how == "looks" && len(w.noted) != 1:
					t.Errorf("noted %d times", len(w.noted))
				case how == "looks":
					if note := <-w.noted; !strings.HasSuffix(note, "f is looked at once a second, since changes are not told: too many open files") {
						t.Errorf("noted: %s", note)
					}
				}
			})
		}
	}
}

// What reads as before is no change, however much happens; nor is what is not whole.
func TestNoChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "1")
	sum := sha256.Sum256([]byte("1"))
	w := watch(t, File{Path: path, Digest: hex.EncodeToString(sum[:])[:12]}, newEvents)
	f, err := os.Create(path) // empty for a moment
	must(t, err)
	defer f.Close()
	must(t, os.Chmod(path, 0o600))
	must(t, os.Remove(path))
	write(t, path, "1")
	// A file under way: it grows every few milliseconds, for longer than it takes to settle.
	f, err = os.Create(path)
	must(t, err)
	defer f.Close()
	tick := time.NewTicker(settle / 10)
	defer tick.Stop()
	last := time.Now()
	for range 30 {
		<-tick.C
		if gap := time.Since(last); gap >= settle {
			t.Skipf("nothing could be written for %v: the machine is busy", gap)
		}
		if _, err := f.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
		last = time.Now()
		if len(w.changed) > 0 {
			t.Fatal("a change was told before the file was whole")
		}
	}
	w.told("the last line")
}

// TestRest: once a change is told no timer runs, nothing polls, and what happens to
// other files in the directory is no concern.
func TestRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := false
	w := &watching{
		File:    File{Path: path, Digest: "none", Changed: func() { told = true; cancel() }, Note: func(text string) { t.Error(text) }},
		open:    newEvents,
		settled: time.NewTimer(settle),
	}
	defer w.disarm()
	time.AfterFunc(patience, cancel)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	write(t, path, "1")
	<-ended
	if !told {
		t.Fatal("no change was told")
	}
	if w.settled.Stop() || w.ticker != nil {
		t.Error("a timer runs at rest")
	}
	write(t, filepath.Join(dir, "log"), "1")
	write(t, path, "2")
	beside := 0
	for {
		select {
		case e := <-w.events.all():
			if !w.events.concerns(e) {
				beside++
				continue
			}
			if e.Name != path || beside == 0 {
				t.Errorf("%v concerns it, after %d that do not", e, beside)
			}
			return
		case <-time.After(patience):
			t.Fatal("no event")
		}
	}
}

// A Watch leaves nothing behind.
func TestWatchEnds(t *testing.T) {
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(fds)
	}
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	once := File{Path: dir + "/f", Changed: func() {}, Note: func(string) {}}
	once.Watch(ctx) // the runtime's own descriptors are open now
	before, ignore := open(), goleak.IgnoreCurrent()
	for range 10 {
		w := watch(t, File{Path: dir + "/f"}, newEvents)
		must(t, os.Rename(dir+"/f", dir+"/g"))
		must(t, os.Rename(dir+"/g", dir+"/f"))
		w.end()
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	goleak.VerifyNone(t, ignore)
}

// A path that leads nowhere, or in a circle, is still watched.
func TestWayEnds(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("b", dir+"/a"))
	must(t, os.Symlink("a", dir+"/b"))
	for path, want := range map[string]string{dir + "/a": dir, dir + "/none/f": dir, dir + "/a/f": dir, "/none": "/"} {
		if w := wayOf(path); len(w.dirs) != 1 || w.dirs[0] != want {
			t.Errorf("%s: %v, want %s", path, w.dirs, want)
		}
	}
}
