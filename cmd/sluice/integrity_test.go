package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A transfer is what one end of a session sends: so many random bytes, then a FIN.
type transfer struct {
	seed  byte
	size  int
	chunk int // most bytes of a write
}

// send writes the transfer and returns the hash of what it wrote.
func (x transfer) send(c *net.TCPConn) (sum []byte, err error) {
	random := rand.NewChaCha8([32]byte{x.seed})
	sizes := rand.New(rand.NewPCG(uint64(x.seed), 0))
	h := sha256.New()
	buffer := make([]byte, x.chunk)
	for left := x.size; left > 0; {
		p := buffer[:min(left, 1+sizes.IntN(x.chunk))]
		random.Read(p)
		h.Write(p)
		if _, err := c.Write(p); err != nil {
			return nil, fmt.Errorf("%d bytes before the end: %w", left, err)
		}
		left -= len(p)
	}
	return h.Sum(nil), c.CloseWrite()
}

// receive reads to the EOF and returns the hash of what came.
func receive(c *net.TCPConn, chunk int) (sum []byte, n int64, err error) {
	h := sha256.New()
	// Only a Writer: io.Copy would hand the work to the connection else.
	n, err = io.CopyBuffer(struct{ hash.Hash }{h}, struct{ io.Reader }{c}, make([]byte, chunk))
	return h.Sum(nil), n, err
}

// exchange runs both transfers of a session at once and compares the hashes.
func exchange(ends [2]*net.TCPConn, xs [2]transfer) error {
	type end struct {
		sum []byte
		n   int64
		err error
	}
	var sent, got [2]end
	var wg sync.WaitGroup
	for i, c := range ends {
		c.SetDeadline(time.Now().Add(time.Minute))
		wg.Go(func() { sent[i].sum, sent[i].err = xs[i].send(c) })
		wg.Go(func() { got[i^1].sum, got[i^1].n, got[i^1].err = receive(c, 1+4*xs[i^1].chunk) })
	}
	wg.Wait()
	var errs []error
	for i, x := range xs {
		switch name := fmt.Sprintf("%d bytes by %d from %s", x.size, x.chunk, [2]string{"client", "backend"}[i]); {
		case cmp.Or(sent[i].err, got[i].err) != nil:
			errs = append(errs, fmt.Errorf("%s: sent %v, received %v after %d bytes", name, sent[i].err, got[i].err, got[i].n))
		case got[i].n != int64(x.size):
			errs = append(errs, fmt.Errorf("%s: %d bytes came", name, got[i].n))
		case !bytes.Equal(sent[i].sum, got[i].sum):
			errs = append(errs, fmt.Errorf("%s: other bytes came", name))
		}
	}
	return errors.Join(errs...)
}

// Every byte arrives, whatever the sizes, the chunks and the moments at which each
// side ends its writing while the other goes on.
func TestIntegrity(t *testing.T) {
	ln := listen(t)
	relays(t, ln.Addr().String(), func(t *testing.T, s *instance) {
		r := rand.New(rand.NewPCG(1, 2))
		logUniform := func(most int) int { return int(math.Exp(r.Float64() * math.Log(float64(most)))) }
		var sessions [][2]transfer
		for _, size := range []int{1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
			sessions = append(sessions, [2]transfer{{1, size, size}, {2, 1, 1}}, [2]transfer{{3, 1, 1}, {4, size, size}})
		}
		for i := range 40 {
			var xs [2]transfer
			for side := range xs {
				size := logUniform(4 << 20)
				xs[side] = transfer{byte(2*i + side), size, max(logUniform(256<<10), size/2000)}
			}
			sessions = append(sessions, xs)
		}
		if testing.Short() || raced() {
			t.Log("without the session of 64 MiB: it is slow here (-short or -race)")
		} else {
			sessions = append(sessions, [2]transfer{{200, 64 << 20, 1 << 20}, {201, 64 << 20, 256 << 10}})
		}
		var wg sync.WaitGroup
		want := 0.0
		for _, xs := range sessions {
			want += float64(xs[0].size + xs[1].size)
			ends := connect(t, s.addr(), ln)
			wg.Go(func() {
				if err := exchange(ends, xs); err != nil {
					t.Error(err)
				}
				ends[0].Close()
				ends[1].Close()
			})
		}
		wg.Wait()
		s.awaitIdle()
		if moved := s.moved(); moved != want {
			t.Errorf("%.0f bytes counted of %.0f", moved, want)
		}
	})
}

// listen makes the listener of a backend.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// connect makes a session and returns both of its ends, the client's first. No
// other may be made to ln at the same time.
func connect(t *testing.T, addr string, ln *net.TCPListener) (ends [2]*net.TCPConn) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	ln.SetDeadline(time.Now().Add(10 * time.Second))
	b, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); b.Close() })
	return [2]*net.TCPConn{c.(*net.TCPConn), b}
}

// A receiver that stops stops its sender, by the socket buffers, and costs sluice
// neither memory nor CPU time meanwhile. Then the stream goes on and nothing is
// missing.
func TestStalledReceiver(t *testing.T) {
	takesLong(t)
	modes(t, func(t *testing.T, mode string) {
		var stalls []*stall
		for _, relay := range []string{"copy", "splice", "auto"} {
			ln := listen(t)
			s := sluice(t, mode, "--relay", relay, "--listen", "127.0.0.1:0", "--backend", ln.Addr().String())
			toClient := connect(t, s.addr(), ln)
			slices.Reverse(toClient[:])
			x := &stall{relay: relay, s: s, streams: [2]*stream{newStream(connect(t, s.addr(), ln)), newStream(toClient)}}
			for _, st := range x.streams {
				go st.push()
				st.expect(t, 8<<20)
			}
			x.memory = s.pss()
			stalls = append(stalls, x)
		}
		// Nothing is read for 5 s. All senders have come to a stop after half of that.
		time.Sleep(2500 * time.Millisecond)
		for _, x := range stalls {
			x.cpu, x.held = x.s.cpu(), x.holdsBack()
		}
		time.Sleep(2500 * time.Millisecond)
		for _, x := range stalls {
			x.judge(t)
		}
		for _, x := range stalls {
			for i, st := range x.streams {
				st.expect(t, int(x.held[i])+8<<20)
				st.from.Close()
				st.to.Close()
			}
			x.s.awaitIdle()
		}
	})
}

// stall is a sluice with a stream each way that is not read.
type stall struct {
	relay   string
	s       *instance
	streams [2]*stream
	memory  int           // before
	cpu     time.Duration // half-way
	held    [2]int64      // half-way
}

// holdsBack is how many bytes the senders could push that were not read.
func (x *stall) holdsBack() (n [2]int64) {
	for i, st := range x.streams {
		n[i] = st.pushed.Load() - st.seen
	}
	return n
}

// judge holds what became of the stall against its bounds.
func (x *stall) judge(t *testing.T) {
	t.Helper()
	growth, cpu, most := x.s.pss()-x.memory, x.s.cpu()-x.cpu, socketBuffers(t)+1<<20 // and one pipe
	t.Logf("%s: held back %v bytes of at most %d, grew by %d bytes, used %v in 2.5 s", x.relay, x.held, most, growth, cpu)
	if held := x.holdsBack(); held != x.held {
		t.Errorf("%s: senders could push %d bytes after 2.5 s, and %d after 5 s", x.relay, x.held, held)
	}
	if slices.Max(x.held[:]) > most {
		t.Errorf("%s: a sender could push %d bytes, at most %d expected", x.relay, slices.Max(x.held[:]), most)
	}
	// 64 KiB is what a half may hold in user memory; the rest is the runtime's own
	// (a GC cycle, a stack that grew), several times that with the race detector.
	bound, idle := 1<<20, 250*time.Millisecond
	if raced() {
		bound, idle = 8*bound, 4*idle
	}
	if growth > bound {
		t.Errorf("%s: grew by %d bytes during the stall, at most %d expected", x.relay, growth, bound)
	}
	if cpu > idle {
		t.Errorf("%s: used %v of CPU time in 2.5 s of waiting", x.relay, cpu)
	}
}

// stream is an endless transfer of which the receiver sees as much as it likes.
type stream struct {
	from, to *net.TCPConn
	pushed   atomic.Int64 // bytes that the sender has written
	seen     int64        // bytes that the receiver has read
	random   *rand.ChaCha8
}

func newStream(ends [2]*net.TCPConn) *stream {
	for _, c := range ends {
		c.SetDeadline(time.Now().Add(time.Minute))
	}
	return &stream{from: ends[0], to: ends[1], random: rand.NewChaCha8([32]byte{7})}
}

// push writes until the connection is closed.
func (x *stream) push() {
	random := rand.NewChaCha8([32]byte{7})
	p := make([]byte, 16<<10)
	for {
		random.Read(p)
		n, err := x.from.Write(p)
		x.pushed.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// expect reads n bytes and compares them.
func (x *stream) expect(t *testing.T, n int) {
	t.Helper()
	want, got := make([]byte, 64<<10), make([]byte, 64<<10)
	for n += len(got) - n%len(got); n > 0; n -= len(got) {
		x.random.Read(want)
		if _, err := io.ReadFull(x.to, got); err != nil {
			t.Fatalf("after %d bytes: %v", x.seen, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrong bytes after %d", x.seen)
		}
		x.seen += int64(len(got))
	}
}

// socketBuffers is the most that two connections in a row hold back: a send and a
// receive buffer each.
func socketBuffers(t *testing.T) (sum int64) {
	t.Helper()
	for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
		b, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var least, first, most int64
		if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &least, &first, &most); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum += 2 * most
	}
	return sum
}
