package metrics

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CreateShared makes a memfd of a fixed size: shared memory that could shrink would
// kill its readers by SIGBUS.
func CreateShared(name string, size int64) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("ftruncate to %d bytes: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fcntl F_ADD_SEALS: %w", err)
	}
	return fd, nil
}

// SharedSize is how large the file behind fd is.
func SharedSize(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return st.Size, nil
}

// MapShared maps a part of what CreateShared made, from a page on. It also keeps fd
// from programs that this process starts: an inherited descriptor would be passed on.
// The mapping takes addresses, not memory, also where the kernel promises no more
// memory than it has.
func MapShared(fd int, at int64, size int) ([]byte, error) {
	unix.CloseOnExec(fd)
	mem, err := unix.Mmap(fd, at, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap %d bytes: %w", size, err)
	}
	return mem, nil
}

// nextData returns the first run of pages at or behind an offset that exist,
// swapped out or not, which a read through the mapping would make. The offset
// that lseek moves is not used. No data: start is size. A kernel that does not
// tell makes the rest data.
func nextData(fd int, at, size uintptr) (start, end uintptr) {
	from, err := unix.Seek(fd, int64(at), unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, size
	}
	if err != nil {
		return at, size
	}
	to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil || to <= from { // it has become a hole since
		to = from + pageUnit
	}
	return uintptr(from), min(uintptr(to), size)
}

// dropPages gives pages back to the kernel: they read as zero from then on.
func dropPages(fd int, at, size uintptr) error {
	const flags = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	return unix.Fallocate(fd, flags, int64(at), int64(size))
}

// Unmap ends what MapShared began.
func Unmap(mem []byte) error {
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	return nil
}

func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close board: %w", err)
	}
	return nil
}
