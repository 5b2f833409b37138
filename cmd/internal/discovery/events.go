package discovery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// events are what the kernel tells about a path: of the file it leads to, and of all
// that decides where it leads. A nil *events tells nothing.
type events struct {
	watcher *fsnotify.Watcher
	way     way
}

// newEvents watches the path as it leads now. It is made anew whenever that may have
// changed, since a watch follows what it was put on, not the name.
func newEvents(path string) (*events, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	// The way may change before all of it is watched: it has not if it is the same after.
	for w := wayOf(path); ; {
		for _, dir := range w.dirs {
			// One that has just gone is missing from the next way.
			if err := watcher.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), watcher.Close())
			}
		}
		after := wayOf(path)
		if slices.Equal(w.dirs, after.dirs) && slices.Equal(w.ids, after.ids) {
			return &events{watcher, w}, nil
		}
		w = after
	}
}

func (e *events) close() {
	if e != nil {
		e.watcher.Close() // it ends its goroutine, and can fail only if closed before
	}
}

func (e *events) all() <-chan fsnotify.Event {
	if e == nil {
		return nil
	}
	return e.watcher.Events
}

func (e *events) errors() <-chan error {
	if e == nil {
		return nil
	}
	return e.watcher.Errors
}

// concerns tells what happens on the way from what happens beside it: a directory may
// hold files that are written all the time.
func (e *events) concerns(event fsnotify.Event) bool {
	return slices.Contains(e.way.names, filepath.Clean(event.Name)) // what lies in / comes as //name
}

// way is how a path leads to a file.
type way struct {
	names []string // all files, links and directories that it goes by, and itself
	dirs  []string // of these the directories to watch
	ids   []fileID // theirs
}

// maxLinks is the kernel's own bound on symbolic links in one path.
const maxLinks = 40

// wayOf walks along an absolute path, link by link. Watched are the directories that
// hold a link or the file itself, or in which the way ends for now. One further up is
// not: if it is exchanged as a whole, and not by a link, that is seen no sooner than
// the next event. (To watch "/tmp" or a home for that would wake sluice all day.)
func wayOf(path string) (w way) {
	at := "/"
	rest := split(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		w.names = append(w.names, next)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			w.watch(at)
			return w
		case info.Mode()&os.ModeSymlink != 0:
			w.watch(at)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return w
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(split(target), rest...)
		case info.IsDir():
			at = next
		default:
			w.watch(at)
			return w
		}
	}
	w.watch(at)
	return w
}

// split cuts a path into its names.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// watch adds a directory, once, and its name: it may go itself.
func (w *way) watch(dir string) {
	if slices.Contains(w.dirs, dir) {
		return
	}
	var id fileID
	if info, err := os.Stat(dir); err == nil {
		id = idOf(info)
	}
	w.dirs, w.ids = append(w.dirs, dir), append(w.ids, id)
	w.names = append(w.names, dir)
}
