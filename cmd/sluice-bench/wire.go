package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// What the load generator and the backend say to each other. A request is a head of 64 bytes and Up bytes after it; the answer is
// Down bytes, of which the last 64 are kept back until the whole request has arrived. So one kind of exchange covers a small
// request (Up 0), a download, an upload and both at once, and a client with the whole answer knows that the whole request
// arrived.
//
// All bytes but the head are one endless pattern, read from position At on: both sides know what must come next.
type request struct {
	At   uint64
	Up   int64
	Down int64 // at least tailSize
}

const (
	headSize = 64
	tailSize = 64
	magic    = 0x736c7563

	// The most that one write and one read move. Measured on the direct row, 1 stream: small writes and large reads keep both ends busy
	// at the same time and the bytes in the cache (3 to 5 GB/s; 128 KiB for both 2 GB/s, and 32 KiB reads no better).
	writeSize = 32 << 10
	readSize  = 256 << 10

	// period is a prime, so that no buffer size divides it and bytes that are lost, doubled or out of place show.
	period = 65521

	// sampled is how much of each read is compared in a measured run: enough to see bytes out of place, and no work for the CPU.
	sampled = 64
)

var errWrongBytes = errors.New("bytes differ from what was sent")

var pattern = func() []byte {
	p := make([]byte, period+readSize)
	x := uint32(1)
	for i := range p {
		if i < period {
			x = x*1664525 + 1013904223
			p[i] = byte(x >> 24)
		} else {
			p[i] = p[i-period]
		}
	}
	return p
}()

// patternAt returns n bytes of the pattern, at most readSize, from position at on.
func patternAt(at uint64, n int) []byte {
	return pattern[at%period:][:n]
}

// checkPattern compares p with the pattern at position at: its first bytes, or all of them.
func checkPattern(p []byte, at uint64, all bool) error {
	if !all {
		p = p[:min(len(p), sampled)]
	}
	if !bytes.Equal(p, patternAt(at, len(p))) {
		return fmt.Errorf("at position %d: %w", at, errWrongBytes)
	}
	return nil
}

func (r request) head() []byte {
	h := make([]byte, 0, headSize)
	h = binary.LittleEndian.AppendUint64(h, magic)
	h = binary.LittleEndian.AppendUint64(h, r.At)
	h = binary.LittleEndian.AppendUint64(h, uint64(r.Up))
	h = binary.LittleEndian.AppendUint64(h, uint64(r.Down))
	return append(h, patternAt(r.At+3*uint64(r.Up)+5*uint64(r.Down), headSize-len(h))...) // a changed number does not fit it
}

func parseHead(h []byte) (request, error) {
	r := request{
		At:   binary.LittleEndian.Uint64(h[8:]),
		Up:   int64(binary.LittleEndian.Uint64(h[16:])),
		Down: int64(binary.LittleEndian.Uint64(h[24:])),
	}
	if !bytes.Equal(h, r.head()) || r.Up < 0 || r.Down < tailSize {
		return request{}, fmt.Errorf("head of a request: %w", errWrongBytes)
	}
	return r, nil
}
