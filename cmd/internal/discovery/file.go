// Package discovery finds out when what a service depends on has changed: a File, or what
// the names of backends stand for (Resolver, in dns.go).
//
//	events of the kernel ─► concerns the path? ─┐
//	                                            ├─► settle: no change for a while ─► other contents? ─► Changed
//	or, without them, a look each second ───────┘
//
//	names ─► due by their TTLs ─► asked for, some at a time ─► answers, damped ─► other addresses? ─► Changed
//
// It owns what it opens, and has closed it when Watch, or Run, returns. Reading order:
// file.go with events.go; dns.go, name.go, schedule.go, lookup.go, exchange.go, answer.go,
// damp.go.
package discovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a file must stay as it is before it is believed to be whole.
	// Programs write a configuration in a few milliseconds; people do not notice 200.
	settle = 200 * time.Millisecond
	// lookEvery is the pace where the kernel tells nothing: one stat(2) a second.
	lookEvery = time.Second
)

// File is a file whose contents matter. It counts as changed when it reads otherwise
// than before: after a write, when another file or link took its place, when a directory
// on the way to it was exchanged, when it is back after a while. While it is missing,
// empty, or no regular file, nothing has changed.
//
// A writer that pauses for longer than 200 ms in the middle of the file cannot be told
// from one that is done. To write beside it and rename is always safe.
type File struct {
	Path string
	// Digest is of the contents that the caller has: SHA-256 in hex, or its first digits,
	// so that a change before Watch began is told, too. "" = what is there as it begins.
	Digest string
	// Changed is called on Watch's goroutine, once for each change that has settled.
	Changed func()
	// Note is called with a sentence for the log, if watching is not what it should be.
	Note func(string)
}

// Watch watches until ctx ends. While nothing happens it costs nothing: it sleeps, with
// no timer. Where the kernel has no inotify instance or watch to spare it looks once a
// second instead, and notes it. Changes that other machines make on a network file
// system are seen in neither way but by that look.
func (f File) Watch(ctx context.Context) { f.watch(ctx, newEvents, lookEvery) }

// watch does that with open in place of newEvents, and looks at another pace.
func (f File) watch(ctx context.Context, open func(path string) (*events, error), pace time.Duration) {
	if path, err := filepath.Abs(f.Path); err == nil { // it fails only where there is no working directory
		f.Path = path
	}
	w := &watching{File: f, open: open, pace: pace, settled: time.NewTimer(settle)}
	defer w.settled.Stop()
	defer w.disarm()
	w.run(ctx)
}

// run is the loop. It is idle when neither settled nor a ticker runs.
func (w *watching) run(ctx context.Context) {
	w.arm()
	if w.Digest == "" {
		w.Digest, _ = w.read(w.look())
	}
	w.touched()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.events.all():
			if !w.events.concerns(e) {
				continue
			}
			if !e.Has(fsnotify.Write) {
				w.arm() // what was watched may have gone, and what came in its place is not yet
			}
			w.touched()
		case <-w.events.errors(): // events were lost
			w.arm()
			w.touched()
		case <-w.tick:
			if now := w.look(); now != w.polled {
				w.polled = now
				w.touched()
			}
		case <-w.settled.C:
			w.compare()
		}
	}
}

// watching is one Watch under way. Digest holds what was reported last.
type watching struct {
	File
	open    func(path string) (*events, error)
	pace    time.Duration
	events  *events          // nil while polling
	ticker  *time.Ticker     // nil unless polling
	tick    <-chan time.Time // of ticker
	polled  sight            // what the last tick saw
	last    sight            // what was seen when settled was set
	settled *time.Timer      // runs while there may be a change
}

// arm watches the path as it leads now. If that cannot be, it polls from then on.
func (w *watching) arm() {
	if w.ticker != nil {
		return
	}
	w.disarm()
	var err error
	if w.events, err = w.open(w.Path); err == nil {
		return
	}
	w.ticker = time.NewTicker(w.pace)
	w.tick = w.ticker.C
	w.Note(fmt.Sprintf("%s is looked at once a second, since changes are not told: %v", w.Path, err))
}

func (w *watching) disarm() {
	w.events.close()
	w.events = nil
	if w.ticker != nil {
		w.ticker.Stop()
	}
}

// touched begins to wait anew until the file has settled.
func (w *watching) touched() {
	w.last = w.look()
	w.settled.Reset(settle)
}

// compare reports other contents, once they have settled.
func (w *watching) compare() {
	if w.look() != w.last {
		w.touched()
		return
	}
	digest, whole := w.read(w.last)
	switch {
	case !whole:
		w.touched()
	case digest != "" && (w.Digest == "" || !strings.HasPrefix(digest, w.Digest)):
		w.Digest = digest
		w.Changed()
	}
}

// sight is what can be seen of a file without reading it. The zero sight is a file that
// is not there.
type sight struct {
	id      fileID
	size    int64
	changed int64 // nanoseconds
}

func (w *watching) look() sight {
	info, err := os.Stat(w.Path)
	if err != nil {
		return sight{}
	}
	return sightOf(info)
}

// sightOf is zero for what holds no contents to compare.
func sightOf(info os.FileInfo) sight {
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return sight{}
	}
	return sight{idOf(info), info.Size(), info.ModTime().UnixNano()}
}

// read is the digest of the contents, "" if there are none to be had. whole is false if
// the file did not look like s before and after.
func (w *watching) read(s sight) (digest string, whole bool) {
	if s == (sight{}) {
		return "", true
	}
	file, err := os.OpenFile(w.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a FIFO by now
	if err != nil {
		return "", true // not ours to read; a change of its mode is an event
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", true
	}
	if info, err := file.Stat(); err != nil || sightOf(info) != s {
		return "", false
	}
	return hex.EncodeToString(sum.Sum(nil)), true
}
