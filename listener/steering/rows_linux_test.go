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
	row.Flags.Or(Draining)
	seat.Pick()
	seat.Pick()
	seat.Beat(1, false)
	seat.Accepted()
	seat.Hold(3)
	seat.Open(false)
	rows.GiveBack(1)
	if heldBy(row) != 0 || row.Heartbeat.Load() != 0 || row.Flags.Load() != Draining || seat.Load() != 1 {
		t.Errorf("held %d, heartbeat %d, flags %b, load %d", heldBy(row), row.Heartbeat.Load(), row.Flags.Load(), seat.Load())
	}
}
