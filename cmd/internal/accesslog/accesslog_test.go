package accesslog

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
)

// within bounds everything a test waits for.
const within = 20 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// rig is a journal with one acceptor's ring, and a Log that reads it.
type rig struct {
	*Log
	t      *testing.T
	writer *journal.Writer
	n      uint64 // records written, which is what bytes_in says in the next
	once   sync.Once
}

func newRig(t *testing.T, stdout io.Writer) *rig {
	t.Helper()
	j, err := journal.New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(j, slog.New(slog.DiscardHandler), stdout, true)
	if err != nil {
		t.Fatal(err)
	}
	j.Use(1)
	g := &rig{Log: l, t: t, writer: j.Writer(1)}
	t.Cleanup(func() {
		g.end()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	l.Names.PutListener(metrics.NewID(1, 1), Listener{"web", "[::]:80", "web"})
	l.Names.PutTarget(metrics.NewID(3, 2), Target{"web", "db:1", "10.0.0.1:1"})
	return g
}

func (g *rig) end() { g.once.Do(g.Close) }

// to puts a place in force.
func (g *rig) to(place string) {
	g.t.Helper()
	p, err := g.Prepare(Options{Access: All, To: place, Format: JSON, Sample: 1})
	if err != nil {
		g.t.Fatal(err)
	}
	g.Put(p)
	eventually(g.t, "adopted", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.next == nil
	})
}

// write has n sessions end, and waits until they were read: the ring holds no more at once.
func (g *rig) write(n int) {
	g.t.Helper()
	for n > 0 {
		some := min(n, 10_000)
		for range some {
			r := closed(func(r *journal.Record) { r.Session, r.Received = journal.NewID(1, 5, uint32(g.n+1)), g.n })
			g.writer.Write(&r)
			g.n++
		}
		g.writer.Flush()
		n -= some
		eventually(g.t, "read", func() bool { return g.lines.Load() == g.n })
	}
}

func (g *rig) unwritten() uint64 { return g.Stats().Dropped[metrics.AccessUnwritten] }

// told is what stands in an output: the records, by number, and the lost ones.
type told struct {
	records map[uint64]int
	lost    []uint64
	broken  int
}

func read(output string) told {
	got := told{records: map[uint64]int{}}
	for line := range strings.Lines(output) {
		var m struct {
			Event   string
			Session string  `json:"id"`
			BytesIn *uint64 `json:"bytes_in"`
			Lines   uint64
		}
		switch err := json.Unmarshal([]byte(line), &m); {
		case err != nil:
			got.broken++
		case m.Event == "lost":
			got.lost = append(got.lost, m.Lines)
		case m.BytesIn != nil:
			got.records[*m.BytesIn]++
		}
	}
	return got
}

// all says that each record from..to is there once.
func (got told) all(t *testing.T, from, to uint64) {
	t.Helper()
	for i := from; i < to; i++ {
		if got.records[i] != 1 {
			t.Fatalf("record %d is there %d times", i, got.records[i])
		}
	}
}

// buffer is an output that can be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestEverySessionHasItsLine(t *testing.T) {
	var out buffer
	g := newRig(t, &out)
	g.to(Stdout)
	g.write(3000)
	g.WorkerDied(1, map[metrics.ID]uint64{metrics.NewID(1, 1): 7})
	g.writer.Flush()
	eventually(t, "the dead worker's line", func() bool { return strings.Contains(out.String(), `"sessions":7`) })
	g.end()
	read(out.String()).all(t, 0, 3000)
	if !strings.Contains(out.String(), `"id":"1-5-1","listener":"web","acceptor":1,"worker":1,"client":"192.0.2.7:5000","local":"[::]:80","pool":"web","backend":"db:1","address":"10.0.0.1:1"`) {
		t.Error(out.String()[:600])
	}
	if s := g.Stats(); s.Lines != 3001 || s.Dropped[metrics.AccessUnwritten]+s.Dropped[metrics.AccessOverwritten] != 0 {
		t.Errorf("%+v", s)
	}
}

// Off again, nothing is written; another place gets what comes from then on, and nothing is
// lost between the two.
func TestPlaceChanges(t *testing.T) {
	var out buffer
	g := newRig(t, &out)
	path := filepath.Join(t.TempDir(), "access.log")
	g.to(Stdout)
	g.write(500)
	g.to(path)
	g.write(500)
	p, err := g.Prepare(Options{Access: Off})
	if err != nil {
		t.Fatal(err)
	}
	g.Put(p)
	if w := g.Want(); w != 0 {
		t.Errorf("wants %v", w)
	}
	if _, err := g.Prepare(Options{Access: All, To: "/no/such/place", Format: JSON}); err == nil {
		t.Error("took a file that can't be opened")
	}
	g.end()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	read(out.String()).all(t, 0, 500)
	read(string(file)).all(t, 500, 1000)
}

// Files that are renamed away while lines flow, again and again: none is lost.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	g := newRig(t, nil)
	g.to(path)
	stop, rotated := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				rotated <- n
				return
			default:
			}
			if err := os.Rename(path, filepath.Join(dir, strconv.Itoa(n))); err != nil {
				t.Error(err)
			}
			if err := g.Reopen(); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 20 {
		g.write(500)
	}
	close(stop)
	n := <-rotated
	g.end()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != n+1 || n < 2 {
		t.Fatalf("%d files after %d rotations: %v", len(files), n, err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	got := read(all.String())
	got.all(t, 0, g.n)
	if got.broken > 0 || g.unwritten() > 0 {
		t.Errorf("%d broken, %d lost", got.broken, g.unwritten())
	}
}

// What a line costs from the ring to the place, without the place.
func BenchmarkLog(b *testing.B) {
	j, err := journal.New()
	if err != nil {
		b.Fatal(err)
	}
	l, err := New(j, slog.New(slog.DiscardHandler), io.Discard, false)
	if err != nil {
		b.Fatal(err)
	}
	j.Use(1)
	w := j.Writer(1)
	p, _ := l.Prepare(Options{Access: All, To: Stdout, Format: JSON, Sample: 1})
	l.Put(p)
	for adopted := false; !adopted; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		adopted = l.next == nil
		l.mu.Unlock()
	}
	r := closed(nil)
	r.Session = journal.NewID(1, 5, 1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		w.Write(&r)
		if n++; n%8192 == 0 {
			w.Flush()
			for l.lines.Load()+l.reader.Overwritten() < uint64(n) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	w.Flush()
	l.Close()
	j.Close()
}
