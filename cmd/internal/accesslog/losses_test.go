package accesslog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/metrics/journal"
)

// fifo is a named pipe with a reader that has not begun to read.
func fifo(t *testing.T) (path string, reader *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return path, reader
}

// A reader that is stuck costs lines. They are counted to the last one, and reported
// when it goes on.
func TestStuckReader(t *testing.T) {
	path, reader := fifo(t)
	g := newRig(t, nil)
	g.to(path)
	const n = 30_000 // some 10 MB of lines
	g.write(n)
	g.to(path) // it was all handed over
	lost := g.unwritten()
	if lost == 0 {
		t.Fatal("nothing was lost")
	}
	var out buffer
	go io.Copy(&out, reader)
	eventually(t, "told", func() bool { return strings.Contains(out.String(), `"lost"`) })
	g.write(10)
	eventually(t, "it goes on", func() bool { return strings.Contains(out.String(), fmt.Sprintf(`"bytes_in":%d,`, n+9)) })
	g.end()
	got := read(out.String())
	got.all(t, n, n+10)
	if len(got.lost) != 1 || got.lost[0] != lost || g.unwritten() != lost || uint64(len(got.records))+lost != g.n || got.broken > 0 {
		t.Errorf("%d written, %d lost, told %v, %d broken of %d", len(got.records), lost, got.lost, got.broken, g.n)
	}
}

// A reader that never goes on does not hold up the end, and what it has not taken is
// counted.
func TestStuckAtTheEnd(t *testing.T) {
	path, reader := fifo(t)
	g := newRig(t, nil)
	g.to(path)
	g.write(5000)
	start := time.Now()
	g.end()
	if took := time.Since(start); took > within/2 {
		t.Errorf("it took %v", took)
	}
	all, _ := io.ReadAll(reader)
	got := read(string(all))
	if uint64(len(got.records))+g.unwritten() != g.n || got.broken > 1 {
		t.Errorf("%d written, %d lost of %d, %d broken", len(got.records), g.unwritten(), g.n, got.broken)
	}
}

func TestFullDisk(t *testing.T) {
	g := newRig(t, nil)
	g.to("/dev/full")
	g.write(5000)
	eventually(t, "all lost", func() bool { return g.unwritten() == 5000 })
}

// disk takes so many bytes more, as one that fills up does.
type disk struct {
	buffer
	room atomic.Int64
}

func (d *disk) Write(p []byte) (int, error) {
	n := min(int64(len(p)), max(d.room.Load(), 0))
	d.room.Add(-n)
	if _, _ = d.buffer.Write(p[:n]); n < int64(len(p)) {
		return int(n), syscall.ENOSPC
	}
	return int(n), nil
}

// One that is full in the middle of a line, and gets room again.
func TestDiskFillsUp(t *testing.T) {
	var out disk
	out.room.Store(100_050)
	g := newRig(t, &out)
	g.to(Stdout)
	g.write(2000)
	eventually(t, "losses", func() bool { return g.unwritten() > 0 })
	out.room.Store(1 << 40)
	g.write(100)
	g.end()
	got := read(out.String())
	got.all(t, 2000, 2100)
	var lost uint64
	for _, n := range got.lost {
		lost += n
	}
	if lost != g.unwritten() || uint64(len(got.records))+lost != g.n || got.broken > 1 {
		t.Errorf("%d written, %d lost, told %v, %d broken of %d", len(got.records), g.unwritten(), got.lost, got.broken, g.n)
	}
}

// A ring that comes round before it is read costs lines, too.
func TestOverwritten(t *testing.T) {
	var out buffer
	g := newRig(t, &out)
	g.to(Stdout)
	const n = 3 * journal.Size
	for i := range uint64(n) {
		r := closed(func(r *journal.Record) { r.Session, r.Received = journal.NewID(1, 5, 1), i })
		g.writer.Write(&r)
	}
	g.writer.Flush()
	eventually(t, "read", func() bool { return g.lines.Load()+g.Stats().Dropped[metrics.AccessOverwritten] == n })
	g.end()
	got := read(out.String())
	if uint64(len(got.records))+g.Stats().Dropped[metrics.AccessOverwritten] != n || len(got.lost) == 0 {
		t.Errorf("%d written, %+v, told %v", len(got.records), g.Stats(), got.lost)
	}
}

// What is overwritten while the log is off, as a trace alone fills the rings, is no line lost.
func TestOverwrittenWhileItIsOff(t *testing.T) {
	g := newRig(t, nil)
	for i := range uint64(3 * journal.Size) {
		r := closed(func(r *journal.Record) { r.Session, r.Kind = journal.NewID(1, 5, uint32(i)+1), journal.KindAccepted })
		g.writer.Write(&r)
	}
	g.writer.Flush()
	eventually(t, "the reader has come by", func() bool { return g.reader.Overwritten() > 0 })
	g.end()
	if n := g.Stats().Dropped[metrics.AccessOverwritten]; n != 0 {
		t.Errorf("%d lines are said to be lost", n)
	}
}

func TestFIFOWithoutReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFile(path); !errors.Is(err, syscall.ENXIO) {
		t.Error(err)
	}
}
