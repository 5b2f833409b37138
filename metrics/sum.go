package metrics

import (
	"sync/atomic"
	"unsafe"
)

// Cells of one kind are added up word by word, spare places included: a new field
// needs no line here.

// wordsOf are cells as the 8-byte words that they consist of.
func wordsOf[T any](cells *T) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(cells)), unsafe.Sizeof(*cells)/8)
}

// sum adds cells to others, which only the caller has.
func sum[T any](dst, src *T) {
	to, from := wordsOf(dst), wordsOf(src)
	for i := range to {
		to[i] += atomic.LoadUint64(&from[i])
	}
}

// fold adds cells to those of the retired stripe, and makes no page there for
// zeros.
func (b *Board) fold(t table, index uint32, cells []uint64) {
	add(b.words(t.place(retired, index), t.size), cells)
}

// add adds words to others, some of which may be written meanwhile.
func add(to, from []uint64) {
	for i := range from {
		if n := atomic.LoadUint64(&from[i]); n != 0 {
			atomic.AddUint64(&to[i], n)
		}
	}
}

// move is add, and takes them away where they were.
func move(to, from []uint64) {
	for i := range from {
		if n := atomic.SwapUint64(&from[i], 0); n != 0 {
			atomic.AddUint64(&to[i], n)
		}
	}
}

func zero(words []uint64) {
	for i := range words {
		atomic.StoreUint64(&words[i], 0)
	}
}
