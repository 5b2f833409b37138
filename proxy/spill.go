package proxy

import "sluice/metrics"

// spills holds the rest of a copy whose receiver took only a part: the bytes are
// out of the sender's socket and must wait somewhere. At most one bufferSize a half,
// and nothing more is read for that half until it is delivered.
type spills struct {
	cells *metrics.AcceptorCells
	rest  [][]byte
	free  []int32 // indexes in rest
	spare [][]byte
}

// spareSpills x bufferSize = 2 MiB is what an acceptor keeps between stalls.
const spareSpills = 32

// keep stores a copy of p and returns its index plus one.
func (h *spills) keep(p []byte) int32 {
	var b []byte
	if n := len(h.spare); n > 0 {
		b = h.spare[n-1][:0]
		h.spare = h.spare[:n-1]
	} else {
		b = make([]byte, 0, bufferSize)
	}
	b = append(b, p...)
	return h.take(b)
}

// take keeps b itself.
func (h *spills) take(b []byte) int32 {
	h.cells.SpillBytes.Add(int64(cap(b)))
	if n := len(h.free); n > 0 {
		i := h.free[n-1]
		h.free = h.free[:n-1]
		h.rest[i] = b
		return i + 1
	}
	h.rest = append(h.rest, b)
	return int32(len(h.rest))
}

// last returns the held bytes that are not yet delivered: the final n.
func (h *spills) last(ref, n int32) []byte {
	b := h.rest[ref-1]
	return b[len(b)-int(n):]
}

// giveBack forgets what is kept under ref.
func (h *spills) giveBack(ref int32) {
	b := h.rest[ref-1]
	h.cells.SpillBytes.Add(-int64(cap(b)))
	h.rest[ref-1] = nil
	h.free = append(h.free, ref-1)
	if len(h.spare) < spareSpills && cap(b) == bufferSize {
		h.spare = append(h.spare, b)
	}
}
