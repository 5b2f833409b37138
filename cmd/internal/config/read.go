package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxFile bounds a configuration. 4096 listeners and 65536 backends, each with all that
// may be said about it, are about 8 MiB.
const maxFile = 16 << 20

// pipeWithin is what a pipe gets until its end has come. A command that fetches
// secrets needs a few seconds.
const pipeWithin = 10 * time.Second

// retryFIFO is how often a FIFO that is not open yet is looked at.
const retryFIFO = 10 * time.Millisecond

// digestOf names the bytes of a file: the first 12 hex digits of their SHA-256.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:12]
}

// readFile reads a file once, whatever can be read to an end: a regular file,
// /dev/stdin, what the shell makes of <(command), a FIFO. From other than a file it
// takes no longer than within. The error does not name the path.
func readFile(path string, within time.Duration) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // else a FIFO waits here for a writer
	if errors.Is(err, syscall.ENXIO) && isStdin(path) {
		return readSocket(os.Stdin, within)
	}
	if err != nil {
		return nil, inner(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch mode := info.Mode(); {
	case err != nil:
		return nil, inner(err)
	case mode&fs.ModeNamedPipe != 0:
		return readPipe(f, hasName(path), within)
	case mode&fs.ModeDevice != 0:
		return nil, errors.New("is a device or a terminal, not a file or a pipe")
	}
	return readBounded(f)
}

// readPipe reads to the end of a pipe. One with a name looks ended before it was
// opened to write: that is no end, but a wait for the first byte.
func readPipe(f *os.File, named bool, within time.Duration) ([]byte, error) {
	until := time.Now().Add(within)
	if err := f.SetReadDeadline(until); err != nil {
		return nil, inner(err)
	}
	for {
		data, err := readBounded(f)
		switch late := !time.Now().Before(until); {
		case errors.Is(err, os.ErrDeadlineExceeded), late && len(data) == 0:
			return nil, errors.New("is a pipe, and nobody has written to it and closed it within " + short(within))
		case err != nil || len(data) > 0 || !named:
			return data, err
		}
		time.Sleep(retryFIFO)
	}
}

// readSocket reads stdin where it is a socket, as some programs give to those they
// start. A socket cannot be opened by its path.
func readSocket(stdin *os.File, within time.Duration) ([]byte, error) {
	c, err := net.FileConn(stdin)
	if err != nil {
		return nil, inner(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, inner(err)
	}
	data, err := readBounded(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("is a socket, and nobody has written to it and closed it within " + short(within))
	}
	return data, err
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, inner(err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("is larger than %d MiB, so it is no configuration", maxFile>>20)
	}
	return data, nil
}

// rereadable says why a path cannot be read a second time; nil = it can. What is not
// there may come back.
func rereadable(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return errors.New("is a pipe, whose contents can be read only once")
	}
	return nil
}

// hasName tells a FIFO, which a path leads to, from a pipe that only descriptors do.
func hasName(path string) bool {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	_, err = os.Lstat(resolved)
	return err == nil
}

// isStdin is true for the usual names of descriptor 0.
func isStdin(path string) bool {
	return path == "/dev/stdin" || path == "/dev/fd/0" || path == "/proc/self/fd/0"
}

// inner is an error without the path, which is in the message already.
func inner(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
