package journal

import (
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"sluice/metrics"
)

// within bounds everything a test waits for.
const within = 20 * time.Second

func world(t testing.TB) (*Journal, *Reader) {
	t.Helper()
	j, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j, r
}

// ended is a record with a number that tells it from others.
func ended(seat int, n uint64) *Record {
	r := &Record{Session: NewID(seat, int32(n)&0xffff, 7), Listener: 3, Target: 4, Opened: 1000, At: 1000 + int64(n), Received: n, Kind: KindClosed}
	r.Client = PeerOf(netip.MustParseAddrPort("192.0.2.7:5000"))
	return r
}

func TestEveryRecordComesOnce(t *testing.T) {
	j, r := world(t)
	var want, got [3]uint64
	for seat := range want {
		j.Use(seat)
		w := j.Writer(seat)
		for range 1000 * (seat + 1) {
			w.Write(ended(seat, want[seat]))
			want[seat]++
		}
	}
	take := func(rec *Record) {
		seat := rec.Session.Seat()
		if *ended(seat, got[seat]) != func() Record { c := *rec; c.seq = 0; return c }() {
			t.Fatalf("record %d of seat %d is %+v", got[seat], seat, rec)
		}
		got[seat]++
	}
	if n := r.Drain(take); n != 6000 || got != want {
		t.Errorf("%d records, %v; want %v", n, got, want)
	}
	if n := r.Drain(take); n != 0 {
		t.Errorf("%d came twice", n)
	}
	if c := ended(0, 1).Client.AddrPort().String(); c != "192.0.2.7:5000" {
		t.Error(c)
	}
}

// What the reader was too late for is counted to the last one, however often the writer
// has come round.
func TestOverwrittenIsCounted(t *testing.T) {
	for _, n := range []uint64{Size - margin, Size - margin + 1, Size, Size + 1, 5*Size + 17} {
		j, r := world(t)
		j.Use(1)
		w := j.Writer(1)
		for i := range n {
			w.Write(ended(1, i))
		}
		first := uint64(0)
		read := uint64(r.Drain(func(rec *Record) {
			if first == 0 {
				first = rec.Received
			}
		}))
		if read+r.Overwritten() != n || read != Size-margin || r.Damaged() != 0 || n > Size && first != n-read {
			t.Errorf("%d written: %d read from %d on, %d overwritten, %d damaged", n, read, first, r.Overwritten(), r.Damaged())
		}
	}
}

// A writer that never waits and a reader that is slower: each record is read or counted,
// none is torn.
func TestReaderBehindWriter(t *testing.T) {
	j, r := world(t)
	const n = 400_000
	j.Use(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := j.Writer(0)
		for i := range uint64(n) {
			rec := ended(0, i)
			rec.Sent = i
			w.Write(rec)
		}
	}()
	read, last := 0, uint64(0)
	take := func(rec *Record) {
		if rec.Sent != rec.Received || rec.At != 1000+int64(rec.Sent) || rec.Sent < last {
			t.Fatalf("torn: %+v after %d", rec, last)
		}
		last = rec.Sent
		read++
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		r.Drain(take)
	}
	if uint64(read)+r.Overwritten() != n || r.Damaged() != 0 || last != n-1 {
		t.Errorf("%d read, %d overwritten, %d damaged of %d", read, r.Overwritten(), r.Damaged(), n)
	}
}

// Whatever is in a ring, the reader goes on behind it.
func TestDamage(t *testing.T) {
	rec := func(change func(*Record)) *Record {
		r := ended(2, 1)
		change(r)
		return r
	}
	for name, bad := range map[string]*Record{
		"kind":     rec(func(r *Record) { r.Kind = numKinds }),
		"no kind":  rec(func(r *Record) { r.Kind = KindNone }),
		"reason":   rec(func(r *Record) { r.Reason = metrics.NumReasons }),
		"listener": rec(func(r *Record) { r.Listener = metrics.NewID(metrics.MaxListeners, 1) }),
		"seat":     rec(func(r *Record) { r.Session = NewID(3, 1, 1) }),
		"time":     rec(func(r *Record) { r.At = r.Opened - 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			j, r := world(t)
			j.Use(2)
			w := j.Writer(2)
			w.Write(bad)
			w.Write(ended(2, 9))
			n := r.Drain(func(rec *Record) {
				if rec.Received != 9 {
					t.Errorf("took %+v", rec)
				}
			})
			if n != 1 || r.Damaged() != 1 {
				t.Errorf("%d taken, %d damaged", n, r.Damaged())
			}
		})
	}
	for name, head := range map[string]uint64{"back": 1, "far ahead": 1 << 63, "all ones": ^uint64(0)} {
		t.Run("head "+name, func(t *testing.T) {
			j, r := world(t)
			j.Use(2)
			w := j.Writer(2)
			w.Write(ended(2, 0))
			w.Write(ended(2, 1))
			r.Drain(func(*Record) {})
			j.ring(2).head.Store(head)
			r.Drain(func(*Record) {})
			if r.Damaged() != 1 || r.Overwritten() != 0 {
				t.Errorf("%d damaged, %d overwritten", r.Damaged(), r.Overwritten())
			}
			w = j.Writer(2) // the successor goes on from there
			w.Write(ended(2, 5))
			if n := r.Drain(func(*Record) {}); n != 1 {
				t.Errorf("%d taken after it", n)
			}
		})
	}
}

// A writer that dies in the middle of a record leaves nothing of it.
func TestWriterDiesWithinARecord(t *testing.T) {
	j, r := world(t)
	j.Use(4)
	w := j.Writer(4)
	w.Write(ended(4, 0))
	half := ended(4, 1)
	half.seq = 2
	copy(j.ring(4).record[1][:recordWords/2], (*[recordWords]uint64)(unsafe.Pointer(half))[:])
	w = j.Writer(4)
	w.Write(ended(4, 2))
	var got []uint64
	r.Drain(func(rec *Record) { got = append(got, rec.Received) })
	if len(got) != 2 || got[0] != 0 || got[1] != 2 || r.Damaged() != 0 || r.Overwritten() != 0 {
		t.Errorf("read %v, %d damaged, %d overwritten", got, r.Damaged(), r.Overwritten())
	}
}

func TestRecent(t *testing.T) {
	j, r := world(t)
	j.Use(0)
	w := j.Writer(0)
	for i := range uint64(Size + 100) {
		w.Write(ended(0, i))
	}
	r.Drain(func(*Record) {})
	for range 2 { // reading takes nothing away
		next := uint64(100 + margin)
		r.Recent(func(rec *Record) {
			if rec.Received != next {
				t.Fatalf("record %d, want %d", rec.Received, next)
			}
			next++
		})
		if next != Size+100 {
			t.Errorf("ends at %d", next)
		}
	}
}

// The reader sleeps until a writer, of this process or another mapping, has something.
func TestReaderSleeps(t *testing.T) {
	j, r := world(t)
	j.Use(5)
	fd, _ := syscall.Dup(j.FD())
	bell, _ := syscall.Dup(j.Bell())
	w, err := Open(fd, bell, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Unmap(w.mem)
	defer syscall.Close(bell)
	woke := make(chan int)
	go func() {
		for r.Wait() {
			if n := r.Drain(func(*Record) {}); n > 0 {
				woke <- n
			}
		}
		close(woke)
	}()
	for i := range 100 {
		if i%2 == 0 { // mostly it sleeps by then, and else it sees the record
			for end := time.Now().Add(within); j.ring(5).asleep.Load() == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		w.Write(ended(5, 0))
		w.Flush()
		select {
		case <-woke:
		case <-time.After(within):
			t.Fatalf("it slept through record %d", i)
		}
	}
	r.Close()
	select {
	case _, open := <-woke:
		if open {
			t.Error("woken with something")
		}
	case <-time.After(within):
		t.Error("Close does not end Wait")
	}
}

// The bell is not rung for nothing: while the reader is awake, or nothing was written.
func TestBellIsSpared(t *testing.T) {
	j, r := world(t)
	j.Use(0)
	w := j.Writer(0)
	rang := func() bool {
		var count [8]byte
		_, err := syscall.Read(j.Bell(), count[:])
		return err == nil
	}
	rang() // for the new seat
	w.Flush()
	w.Write(ended(0, 0))
	w.Flush()
	if rang() {
		t.Error("it rang though nobody slept")
	}
	j.ring(0).asleep.Store(1)
	w.Flush()
	if rang() {
		t.Error("it rang for nothing")
	}
	for range 3 {
		w.Write(ended(0, 0))
		w.Flush()
	}
	if !rang() || rang() {
		t.Error("want it to ring once")
	}
	r.Drain(func(*Record) {})
	(*Writer)(nil).Flush()
}

func TestOpenRefuses(t *testing.T) {
	j, _ := world(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Open(int(file.Fd()), j.Bell(), 0); err == nil {
		t.Error("took any file as a journal")
	}
	if _, err := Open(j.FD(), int(file.Fd()), 0); err == nil {
		t.Error("took a bell that may block")
	}
}

func TestID(t *testing.T) {
	for _, id := range []ID{NewID(0, 0, 1), NewID(63, 1<<26-1, 1<<31-1), NewID(2, 17, 0x1f3a9c0d)} {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("%v: %v, %v", id, got, err)
		}
	}
	if id := NewID(63, 1<<26-1, 1<<31-1); id.Seat() != 63 || id.Slot() != 1<<26-1 || id.Use() != 1<<31-1 {
		t.Error(id.Seat(), id.Slot(), id.Use())
	}
	for _, text := range []string{"", "1", "1-2", "1-2-3-4", "64-0-1", "0-67108864-1", "0-0-80000000", "-1-0-1", "01-0-1", "0-0-1F", "a-b-c"} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%q is %v", text, id)
		}
	}
}

func TestManyWriters(t *testing.T) {
	j, r := world(t)
	const writers, each = 8, 20_000
	var all sync.WaitGroup
	for seat := range writers {
		j.Use(seat)
		all.Go(func() {
			w := j.Writer(seat)
			for i := range uint64(each) {
				w.Write(ended(seat, i))
				w.Flush()
			}
		})
	}
	read := make(chan int)
	go func() {
		n := 0
		for r.Wait() {
			n += r.Drain(func(*Record) {})
		}
		n += r.Drain(func(*Record) {})
		read <- n
	}()
	all.Wait()
	r.Close()
	if n := uint64(<-read) + r.Overwritten(); n != writers*each || r.Damaged() != 0 {
		t.Errorf("%d of %d accounted for, %d damaged", n, writers*each, r.Damaged())
	}
}

func BenchmarkWrite(b *testing.B) {
	j, _ := world(b)
	w := j.Writer(0)
	rec := *ended(0, 1)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(&rec)
		w.Flush()
	}
}

func BenchmarkDrain(b *testing.B) {
	j, r := world(b)
	j.Use(0)
	w := j.Writer(0)
	rec := *ended(0, 1)
	for b.Loop() {
		w.Write(&rec)
		if r.Drain(func(*Record) {}) != 1 {
			b.Fatal("none came")
		}
	}
}

func TestOldest(t *testing.T) {
	j, r := world(t)
	j.Use(3)
	if at, forgot := r.Oldest(3); at != 0 || forgot {
		t.Errorf("%d, %v of an empty ring", at, forgot)
	}
	w := j.Writer(3)
	for n := range uint64(10) {
		w.Write(ended(3, n))
	}
	if at, forgot := r.Oldest(3); at != 1000 || forgot {
		t.Errorf("%d, %v after 10 records", at, forgot)
	}
	for n := uint64(10); n < Size+100; n++ {
		w.Write(ended(3, n))
	}
	if at, forgot := r.Oldest(3); at != 1000+100+margin || !forgot {
		t.Errorf("%d, %v after %d records", at, forgot, Size+100)
	}
}
