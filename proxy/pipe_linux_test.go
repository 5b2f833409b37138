package proxy

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
)

// stock is a stock of real pipes.
func stock(t *testing.T, limit int) (*pipes, *metrics.AcceptorCells) {
	before := openDescriptors(t)
	y, cells := sys.Linux(), new(metrics.AcceptorCells)
	p := &pipes{sys: &y, cells: cells, limit: limit}
	t.Cleanup(func() {
		p.release()
		if n := openDescriptors(t); n != before || cells.PipesOpen.Load() != 0 || cells.PipesInUse.Load() != 0 {
			t.Errorf("%d descriptors open, %d before; cells say %d pipes open, %d in use", n, before, cells.PipesOpen.Load(), cells.PipesInUse.Load())
		}
	})
	return p, cells
}

func TestPipesAreBounded(t *testing.T) {
	p, cells := stock(t, 3)
	var refs []int32
	for range 3 {
		refs = append(refs, p.borrow(0))
	}
	if p.borrow(0) != 0 || cells.PipeFallbacks.Load() != 1 {
		t.Error("a fourth pipe was lent, or its lack not counted")
	}
	p.giveBack(refs[1])
	if again := p.borrow(0); again != refs[1] {
		t.Errorf("got %d, want the idle one, %d", again, refs[1])
	}
	for _, ref := range refs {
		p.giveBack(ref)
	}
}

// Only a few idle pipes are kept, and vacant places are used again.
func TestPipesIdle(t *testing.T) {
	p, cells := stock(t, 100)
	for range 2 {
		var refs []int32
		for range idlePipes + 5 {
			refs = append(refs, p.borrow(0))
		}
		for _, ref := range refs {
			p.giveBack(ref)
		}
		if n := cells.PipesOpen.Load(); n != idlePipes {
			t.Errorf("%d pipes are kept, want %d", n, idlePipes)
		}
	}
	if n := len(p.all); n != idlePipes+5 {
		t.Errorf("%d places for %d pipes", n, idlePipes+5)
	}
}

// A pipe with bytes in it never comes back.
func TestDirtyPipeIsDestroyed(t *testing.T) {
	p, cells := stock(t, 1)
	ref := p.borrow(0)
	if _, err := unix.Write(p.at(ref).w, []byte("left over")); err != nil {
		t.Fatal(err)
	}
	p.destroy(ref)
	if n := cells.PipesOpen.Load(); n != 0 {
		t.Errorf("%d pipes open", n)
	}
	ref = p.borrow(0)
	if n, err := unix.Read(p.at(ref).r, make([]byte, 10)); err != syscall.EAGAIN {
		t.Errorf("the next pipe gives %d bytes, %v", n, err)
	}
	p.giveBack(ref)
}

// No new pipe is tried for a while after one could not be had, or was too small to be
// worth it: a user over fs.pipe-user-pages-soft gets two pages.
func TestPipeRetry(t *testing.T) {
	for _, lack := range []struct {
		capacity int
		errno    syscall.Errno
	}{{errno: syscall.EMFILE}, {errno: syscall.ENFILE}, {capacity: 2 * 4096}} {
		p, cells := stock(t, 10)
		calls, whole := 0, p.sys.Pipe
		p.sys.Pipe = func(size int) (int, int, int, syscall.Errno) {
			calls++
			if lack.errno != 0 {
				return -1, -1, 0, lack.errno
			}
			r, w, _, errno := whole(size)
			return r, w, lack.capacity, errno
		}
		for i := range 100 {
			if p.borrow(int64(i)) != 0 {
				t.Fatal("a pipe was lent")
			}
		}
		if calls != 1 || cells.PipeFallbacks.Load() != 100 {
			t.Errorf("%v: %d tries, %d fallbacks counted", lack, calls, cells.PipeFallbacks.Load())
		}
		p.sys.Pipe = whole
		ref := p.borrow(int64(pipeRetry + time.Second))
		if ref == 0 {
			t.Fatal("no pipe after the pause")
		}
		p.giveBack(ref)
	}
}
