package proxy

import (
	"syscall"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

const (
	// pipeSize is what a streaming half gets. Measured for one stream: 64 KiB 0.51,
	// 256 KiB 0.41, 1 MiB 0.28 CPU s/GB. 1 MiB is fs.pipe-max-size as shipped.
	pipeSize = 1 << 20
	// minPipeSize is what splicing is worth while with. Less means that the user is
	// over fs.pipe-user-pages-soft, where the kernel hands out pipes of two pages.
	minPipeSize = 64 << 10
	// idlePipes is how many empty pipes an acceptor keeps for the next half.
	idlePipes = 8
	// pipeRetry is how long no new pipe is tried after one could not be had.
	pipeRetry = time.Second
)

// pipes is an acceptor's bounded stock of pipes. A half borrows one while bytes are
// in it. Only an empty pipe comes back; one with bytes left is destroyed.
type pipes struct {
	sys     *sys.Calls
	cells   *metrics.AcceptorCells
	limit   int // most pipes at a time
	all     []pipe
	idle    []int32 // indexes of open pipes that no half holds
	vacant  []int32 // indexes in all without a pipe
	retryAt int64   // clock before which no new pipe is tried
	denied  bool    // splice(2) is not to be had here; see notSpliced
}

type pipe struct {
	r, w     int
	capacity int
}

// borrow returns the index of an empty pipe plus one, or 0 if none can be had:
// then the half copies.
func (p *pipes) borrow(now int64) int32 {
	if p.denied {
		return 0
	}
	if n := len(p.idle); n > 0 {
		i := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.cells.PipesInUse.Add(1)
		return i + 1
	}
	if now < p.retryAt || len(p.all)-len(p.vacant) >= p.limit {
		p.cells.PipeFallbacks.Add(1)
		return 0
	}
	r, w, capacity, errno := p.sys.Pipe(pipeSize)
	if errno == 0 && capacity < minPipeSize {
		p.closeEnds(pipe{r: r, w: w})
		errno = syscall.EPERM
	}
	if errno != 0 {
		p.retryAt = now + int64(pipeRetry)
		p.cells.PipeFallbacks.Add(1)
		return 0
	}
	i := int32(len(p.all))
	if n := len(p.vacant); n > 0 {
		i = p.vacant[n-1]
		p.vacant = p.vacant[:n-1]
		p.all[i] = pipe{r, w, capacity}
	} else {
		p.all = append(p.all, pipe{r, w, capacity})
	}
	p.cells.PipesOpen.Add(1)
	p.cells.PipesInUse.Add(1)
	return i + 1
}

func (p *pipes) at(ref int32) pipe { return p.all[ref-1] }

// giveBack takes a pipe that holds nothing.
func (p *pipes) giveBack(ref int32) {
	p.cells.PipesInUse.Add(-1)
	if len(p.idle) < idlePipes && !p.denied {
		p.idle = append(p.idle, ref-1)
		return
	}
	p.drop(ref - 1)
}

// destroy takes a pipe that still holds bytes that no one will read.
func (p *pipes) destroy(ref int32) {
	p.cells.PipesInUse.Add(-1)
	p.drop(ref - 1)
}

func (p *pipes) drop(i int32) {
	p.closeEnds(p.all[i])
	p.all[i] = pipe{r: -1, w: -1}
	p.vacant = append(p.vacant, i)
	p.cells.PipesOpen.Add(-1)
}

func (p *pipes) closeEnds(e pipe) {
	p.sys.Close(e.r)
	p.sys.Close(e.w)
}

// release closes every idle pipe.
func (p *pipes) release() {
	for _, i := range p.idle {
		p.drop(i)
	}
	p.idle = nil
}
