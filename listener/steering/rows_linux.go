package steering

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const rowsSize = MaxAcceptors * int(unsafe.Sizeof(Row{}))

// Rows are the rows of all acceptors in shared memory: a BPF map where that can
// be had, else plain memory, so that acceptors need not know.
type Rows struct {
	fd     int
	memory []byte
	noBPF  error // why it is plain memory
}

// NewRows makes the rows of a service, all zero.
func NewRows() (*Rows, error) {
	fd, bpfErr := newRowsMap()
	if bpfErr != nil {
		var err error
		if fd, err = plainMemory(); err != nil {
			return nil, fmt.Errorf("rows: %w", err)
		}
	}
	r, err := OpenRows(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	r.noBPF = bpfErr
	return r, nil
}

// OpenRows maps rows that another process made. It owns fd from then on; after
// an error the caller still does.
func OpenRows(fd int) (*Rows, error) {
	unix.CloseOnExec(fd)
	memory, err := unix.Mmap(fd, 0, rowsSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("rows: mmap: %w", err)
	}
	return &Rows{fd: fd, memory: memory}, nil
}

func plainMemory() (int, error) {
	fd, err := unix.MemfdCreate("sluice-rows", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(rowsSize)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("ftruncate: %w", err)
	}
	return fd, nil
}

// Row is the row of seat i, valid until Close.
func (r *Rows) Row(i int) *Row {
	return &(*[MaxAcceptors]Row)(unsafe.Pointer(unsafe.SliceData(r.memory)))[i]
}

// FD is the descriptor to pass to another process. It is the rows': do not close it.
func (r *Rows) FD() int { return r.fd }

// Close unmaps the rows here. A program that reads them goes on.
func (r *Rows) Close() error {
	if err := unix.Munmap(r.memory); err != nil {
		return fmt.Errorf("rows: munmap: %w", err)
	}
	return unix.Close(r.fd)
}
