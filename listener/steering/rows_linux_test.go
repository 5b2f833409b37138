package steering

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestRowIsTwoCacheLines(t *testing.T) {
	var row Row
	if size, theirs := unsafe.Sizeof(row), unsafe.Offsetof(row.Gone); size != 128 || theirs != 64 {
		t.Errorf("size %d, the acceptors' part at %d", size, theirs)
	}
}

// What one process writes the other sees, by BPF map and by plain memory.
func TestRowsAreShared(t *testing.T) {
	makers := map[string]func() (*Rows, error){
		"as available": NewRows,
		"plain": func() (*Rows, error) {
			fd, err := plainMemory()
			if err != nil {
				return nil, err
			}
			return OpenRows(fd)
		},
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			ours, err := make()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			fd, err := unix.Dup(ours.FD())
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := OpenRows(fd)
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			theirs.Seat(MaxAcceptors - 1).Accepted()
			if row := ours.Row(MaxAcceptors - 1); heldBy(row) != 1 {
				t.Error("a connection accepted there is not seen here")
			}
		})
	}
}

func TestOpenRowsRefuses(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := OpenRows(fd); err == nil {
		t.Error("took /dev/null for rows")
	}
}

func TestGiveBack(t *testing.T) {
	rows := newRows(t)
	seat, row := rows.Seat(1), rows.Row(1)
	rows.SetDraining(1, true)
	seat.Pick()
	seat.Pick()
	seat.Beat(1, false)
	seat.Accepted()
	seat.Hold(3)
	seat.Open(false)
	rows.GiveBack(1)
	if heldBy(row) != 0 || row.Flags.Load() != Draining|Closed || seat.Load() != 1 || rows.InFlight(1) != 1 {
		t.Errorf("held %d, flags %b, load %d, in flight %d", heldBy(row), row.Flags.Load(), seat.Load(), rows.InFlight(1))
	}
	seat.Open(true)
	rows.SetDraining(1, false)
	if flags := row.Flags.Load(); flags != 0 {
		t.Errorf("flags %b", flags)
	}
}

// Nothing of a seat is left to the next one with its number, and its neighbours keep
// theirs.
func TestReset(t *testing.T) {
	rows := newRows(t)
	for _, i := range []int{0, 1, 2} {
		seat := rows.Seat(i)
		for range 5 {
			seat.Pick()
		}
		seat.Accepted()
		seat.Hold(2)
		seat.Open(false)
		rows.SetHung(i, true)
		rows.SetDraining(i, true)
		rows.Row(i).round.Store(7)
	}
	rows.Reset(1)
	var words [MaxAcceptors][unsafe.Sizeof(Row{}) / 8]uint64
	copy((*[rowsSize]byte)(unsafe.Pointer(&words))[:], rows.memory)
	for _, word := range words[1] {
		if word != 0 {
			t.Fatalf("left in the row: %v", words[1])
		}
	}
	for _, i := range []int{0, 2} {
		if heldBy(rows.Row(i)) != 3 || rows.InFlight(i) != 4 || rows.Row(i).Flags.Load() != Draining|Closed|Hung {
			t.Errorf("neighbour %d: %v", i, words[i])
		}
	}
}
