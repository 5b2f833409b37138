package discovery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Files follows files whose contents are taken over while a service runs: lists of
// backends, lists of prefixes.
//
//	Want(files) ─► read ─► Parse ─► good: its contents are those in force, Changed
//	                 ▲        └───► bad, or none to be had: the last good ones stay; logged once, counted
//	                 └── File.Watch: it has changed and settled
type Files struct {
	log     *slog.Logger
	changed chan struct{}
	watch   func(File, context.Context) // File.Watch, but in tests

	mu      sync.Mutex
	ctx     context.Context // what all watches end with
	all     map[FileKey]*followed
	running sync.WaitGroup
}

// FileKey names a followed file: one that is two things to a service is followed twice.
type FileKey struct{ Kind, Path string }

// FileWanted is a file to follow.
type FileWanted struct {
	FileKey
	// Parse makes contents of bytes, and says how many entries they have. It must not keep
	// the bytes. The error says where in the file and what, without its path.
	Parse func(data []byte) (contents any, entries int, err error)
}

// FileFacts are what is shown of a file.
type FileFacts struct {
	FileKey
	OK      bool   // what it says is in force
	Entries int    // of what is in force
	Faults  uint64 // times that it could not be taken
	Fault   string // why it is not OK
}

// followed is a file and what it said last.
type followed struct {
	FileWanted
	stop     context.CancelFunc
	digest   string // of the bytes that were read last, good or bad; "" = none
	contents any    // the last good ones; nil = there were none yet
	entries  int
	fault    string // "" = contents are what the file says
	faults   uint64
}

// NewFiles follows nothing yet. All watches end with ctx; see Wait.
func NewFiles(ctx context.Context, log *slog.Logger) *Files {
	return &Files{log: log, ctx: ctx, changed: make(chan struct{}, 1), all: map[FileKey]*followed{}, watch: File.Watch}
}

// Wait waits until all watches have ended.
func (f *Files) Wait() { f.running.Wait() }

// Changed tells, some time after it happened, that Contents has something else. One that
// is not waited for stays there.
func (f *Files) Changed() <-chan struct{} { return f.changed }

// Tell has Changed tell, whether or not something has changed.
func (f *Files) Tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Want replaces the files. One that is new is read before Want returns; one that is not
// wanted any more is forgotten.
func (f *Files) Want(files []FileWanted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[FileKey]bool{}
	for _, w := range files {
		wanted[w.FileKey] = true
		if f.all[w.FileKey] == nil {
			f.beginLocked(w)
		}
	}
	for key, file := range f.all {
		if !wanted[key] {
			file.stop()
			delete(f.all, key)
		}
	}
}

// Again reads all files now, whether or not a change was reported.
func (f *Files) Again() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, file := range f.all {
		f.readLocked(file)
	}
}

// Contents are the last good ones of a file; nil = there were none yet, or it is not wanted.
func (f *Files) Contents(key FileKey) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file := f.all[key]; file != nil {
		return file.contents
	}
	return nil
}

// Facts are those of all files, in order.
func (f *Files) Facts() (facts []FileFacts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, file := range f.all {
		facts = append(facts, FileFacts{FileKey: key, OK: file.fault == "", Entries: file.entries, Faults: file.faults, Fault: file.fault})
	}
	slices.SortFunc(facts, func(a, b FileFacts) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Path, b.Path))
	})
	return facts
}

func (f *Files) beginLocked(w FileWanted) {
	ctx, stop := context.WithCancel(f.ctx)
	file := &followed{FileWanted: w, stop: stop}
	f.all[w.FileKey] = file
	f.readLocked(file)
	watched := File{
		Path: w.Path, Digest: cmp.Or(file.digest, "none"), // no digest begins so: whatever comes is another
		Changed: func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if ctx.Err() == nil {
				f.readLocked(file)
			}
		},
		Note: func(text string) { f.log.Warn(text) },
	}
	f.running.Go(func() { f.watch(watched, ctx) })
}

// readLocked takes over what the file says, if it is good and new.
func (f *Files) readLocked(file *followed) {
	digest, contents, entries, err := file.read()
	if err != nil {
		if file.fault != err.Error() { // else it was reported already
			file.faults++
			f.log.Error("a file is not taken; what it said before stays in force", "kind", file.Kind, "path", file.Path, "error", err)
		}
		file.digest, file.fault = digest, err.Error()
		return
	}
	same := file.digest == digest && file.fault == ""
	if was := file.fault; was != "" || !same && file.contents != nil {
		f.log.Info("a file was taken", "kind", file.Kind, "path", file.Path, "entries", entries)
	}
	file.digest, file.fault = digest, ""
	if same {
		return
	}
	file.contents, file.entries = contents, entries
	f.Tell()
}

// maxFollowed bounds a file: 100,000 prefixes of IPv6 are about 4 MiB.
const maxFollowed = 64 << 20

// read reads and parses the file. The digest is of whatever could be read.
func (w FileWanted) read() (digest string, contents any, entries int, err error) {
	data, err := ReadRegular(w.Path)
	if err != nil {
		return "", nil, 0, err
	}
	sum := sha256.Sum256(data)
	digest = hex.EncodeToString(sum[:])
	contents, entries, err = w.Parse(data)
	return digest, contents, entries, err
}

// ReadRegular reads a regular file, of at most 64 MiB. The error does not name the path.
func ReadRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a FIFO
	if err != nil {
		return nil, bare(err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, bare(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFollowed+1))
	if err == nil && len(data) > maxFollowed {
		return nil, fmt.Errorf("is larger than %d MiB", maxFollowed>>20)
	}
	return data, bare(err)
}

// bare is an error without the path, which stands beside it.
func bare(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}
