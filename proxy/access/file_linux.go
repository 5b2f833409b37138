package access

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// File puts an image into a file without a disk that can't be changed any more. The
// caller closes it.
func File(image []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("sluice-access", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("sluice-access", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "sluice-access")
	if _, err := f.Write(image); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("fcntl F_ADD_SEALS: %w", err)
	}
	return f, nil
}

// maxImage is far above what a list of 16 MiB makes.
const maxImage = 256 << 20

// Open reads the Set out of a File's descriptor, which stays the caller's.
func Open(fd int) (*Set, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	if st.Size > maxImage {
		return nil, fmt.Errorf("%w: %d bytes", errImage, st.Size)
	}
	image := make([]byte, st.Size)
	for n := 0; n < len(image); { // the descriptor's offset is shared with other workers
		m, err := unix.Pread(fd, image[n:], int64(n))
		if err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("pread: %w", err)
		}
		if m == 0 && err == nil {
			return nil, fmt.Errorf("%w: cut", errImage)
		}
		n += max(m, 0)
	}
	return FromImage(image)
}
