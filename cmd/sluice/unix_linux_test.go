package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// shortenQueue lets a listening socket keep one connection waiting, and one more.
func shortenQueue(t *testing.T, fd int) {
	if err := unix.Listen(fd, 1); err != nil {
		t.Error(err)
	}
}
