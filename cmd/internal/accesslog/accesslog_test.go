package accesslog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// A reader that is stuck costs lines. They are counted to the last one, and told when it
// goes on.
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

// message takes RFC 5424's header off.
func message(t *testing.T, m string) string {
	t.Helper()
	head, rest, ok := strings.Cut(m, " access - ")
	f := strings.Fields(head)
	if !ok || len(f) != 5 || f[0] != "<30>1" || f[3] != "sluice" || f[4] != strconv.Itoa(os.Getpid()) {
		t.Fatalf("no header: %q", m)
	}
	if _, err := time.Parse(time.RFC3339, f[1]); err != nil {
		t.Fatal(err)
	}
	return rest + "\n"
}

func TestSyslogDatagrams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for network, addr := range map[string]string{"udp": "127.0.0.1:0", "unixgram": path} {
		t.Run(network, func(t *testing.T) {
			conn, err := net.ListenPacket(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			g := newRig(t, nil)
			place := "syslog:unix:" + addr
			if network == "udp" {
				place = "syslog:udp:" + conn.LocalAddr().String()
			}
			g.to(place)
			g.write(20)
			var out strings.Builder
			b := make([]byte, 2048)
			conn.SetReadDeadline(time.Now().Add(within))
			for range 20 {
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				out.WriteString(message(t, string(b[:n])))
			}
			read(out.String()).all(t, 0, 20)
		})
	}
}

// A server that goes away and comes back: lines wait for it. Its connection's last ones may
// be lost, as nobody can know of them.
func TestSyslogStream(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g := newRig(t, nil)
	g.to("syslog:tcp:" + ln.Addr().String())
	// take is a server that leaves when it has the record with number last.
	take := func(last uint64) (got told) {
		t.Helper()
		ln.(*net.TCPListener).SetDeadline(time.Now().Add(within))
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(within))
		in := bufio.NewReader(conn)
		for lines := ""; got.records[last] == 0; got = read(lines) {
			var size int
			if _, err := fmt.Fscanf(in, "%d", &size); err != nil {
				t.Fatal(err)
			}
			m := make([]byte, 1+size)
			if _, err := io.ReadFull(in, m); err != nil {
				t.Fatal(err)
			}
			lines += message(t, string(m[1:]))
		}
		return got
	}
	g.write(50)
	take(g.n-1).all(t, 0, g.n)
	eventually(t, "it finds the server gone", func() bool {
		g.write(1)
		s := g.current.sink.place.(*syslog)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.conn == nil
	})
	from := g.n
	g.write(30)
	take(g.n-1).all(t, from-1, g.n) // the line that found it is sent again
	if g.unwritten() != 0 {
		t.Errorf("%d lost", g.unwritten())
	}
}

// Nobody answers: the end is not held up, and all is counted.
func TestSyslogNobody(t *testing.T) {
	g := newRig(t, nil)
	g.to("syslog:unix:" + filepath.Join(t.TempDir(), "nobody"))
	g.write(1000)
	g.end()
	if g.unwritten() != 1000 {
		t.Errorf("%d lost of 1000", g.unwritten())
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
