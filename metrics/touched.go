package metrics

import "iter"

// Reading a page of the board that was never touched would make it: 4 KiB for a
// zero. So code that walks over seats or things asks the kernel first which
// pages there are. That also says which seats were ever in use, by any process,
// and needs no word of a worker.

// view is a stripe with the pages of it that there were a moment ago. A nil one
// has none.
type view struct {
	board  *Board
	stripe int
	pages  [(stripeSize/pageUnit + 63) / 64]uint64 // a bit for each pageUnit
}

// view returns nil for a stripe that was never touched. It makes two system calls
// for each run of pages, a handful as a rule, and one more.
func (b *Board) view(stripe int) *view {
	var v *view
	start := acceptorTable.place(stripe, 0)
	for from, to := range b.runs(start, stripeSize) {
		if v == nil {
			v = &view{board: b, stripe: stripe}
		}
		v.mark((from-start)/pageUnit, (to-start)/pageUnit)
	}
	return v
}

// runs goes through the runs of touched pages within a part of the board.
func (b *Board) runs(start, size uintptr) iter.Seq2[uintptr, uintptr] {
	return func(yield func(from, to uintptr) bool) {
		for at := start; at < start+size; {
			from, to := nextData(b.fd, at, boardSize)
			if from >= start+size || !yield(from, min(to, start+size)) {
				return
			}
			at = to // behind from: each round gets on by a page at least
		}
	}
}

func (v *view) mark(from, to uintptr) {
	for page := from; page < to; page++ {
		v.pages[page/64] |= 1 << (page % 64)
	}
}

// touched says whether the page of an index's cells was touched.
func (v *view) touched(t table, index uint32) bool {
	if v == nil {
		return false
	}
	page := (t.place(v.stripe, index) - acceptorTable.place(v.stripe, 0)) / pageUnit
	return v.pages[page/64]&(1<<(page%64)) != 0
}

// cellsOf returns the cells of an index, nil if their page was not touched.
func cellsOf[T any](v *view, t table, index uint32) *T {
	if !v.touched(t, index) {
		return nil
	}
	return cellsAt[T](v.board, t.place(v.stripe, index))
}

// clear zeroes the cells of an index in every stripe where they were touched. It
// leaps from one run of pages to the next, so stripes without any cost nothing.
func (b *Board) clear(t table, index uint32) {
	for stripe := 0; stripe < stripes; {
		at := t.place(stripe, index)
		from, _ := nextData(b.fd, at, boardSize)
		if from < at+t.size {
			zero(b.words(at, t.size))
			stripe++
			continue
		}
		// On to the first stripe where these cells end behind from.
		stripe += 1 + int((from-(at+t.size))/stripeSize)
	}
}

// drop makes a stripe as it was before it was touched.
func (b *Board) drop(stripe int) {
	start := acceptorTable.place(stripe, 0)
	if dropPages(b.fd, start, stripeSize) == nil {
		return
	}
	for from, to := range b.runs(start, stripeSize) { // not every sandbox can drop them
		zero(b.words(from, to-from))
	}
}
