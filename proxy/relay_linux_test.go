package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"sluice/metrics"
)

// paths are the bytes that a service moved to its backend, by path, once the last of
// total are counted: a reader may have them before.
func (s *service) paths(total uint64) (copied, spliced uint64) {
	s.t.Helper()
	l := s.acceptors[0].web()
	waitFor(s.t, "the bytes to be counted", func() bool {
		copied, spliced = l.Received[metrics.PathCopy].Load(), l.Received[metrics.PathSplice].Load()
		return copied+spliced == total
	})
	return copied, spliced
}

// Small requests are copied, whatever their number; a stream goes over to splice(2)
// after a few full reads, and comes back when it trickles.
func TestRelayAdapts(t *testing.T) {
	s := start(t)
	c, b := s.pair()
	turn := func(size, times int) {
		message, got := make([]byte, size), make([]byte, size)
		for range times {
			written := make(chan error, 1)
			go func() { // no socket on the way takes all of a large one
				_, err := c.Write(message)
				written <- err
			}()
			if _, err := io.ReadFull(b, got); err != nil {
				t.Fatal(err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
		}
	}
	turn(1000, 100)
	if copied, spliced := s.paths(100_000); spliced != 0 {
		t.Errorf("small messages: %d bytes copied, %d spliced", copied, spliced)
	}
	turn(8<<20, 4)
	copied, spliced := s.paths(100_000 + 32<<20)
	if spliced < 3*copied {
		t.Errorf("a stream: %d bytes copied, %d spliced", copied, spliced)
	}
	turn(1000, 20)
	copied2, spliced2 := s.paths(120_000 + 32<<20)
	if spliced2-spliced > trickleReads*1000 || copied2 == copied {
		t.Errorf("a trickle behind it: %d bytes copied, %d spliced", copied2-copied, spliced2-spliced)
	}
	if n := s.acceptors[0].cells.PipesInUse.Load(); n != 0 {
		t.Errorf("an idle session has %d pipes", n)
	}
}

// One big read is no stream: the reads that speak for it must come in a row.
func TestRelayAdaptsToARow(t *testing.T) {
	w := newWorld(t)
	s, f := w.relaying()
	read := func(n int) {
		f[client].in = make([]byte, n)
		w.turn(w.on(s.fd[client], epollIn))
	}
	for range 10 {
		read(streamSize)
		read(streamSize)
		read(streamSize - 1)
	}
	if n := w.calls["splice in"]; n != 0 {
		t.Errorf("%d splices for two big reads in a row", n)
	}
	for range streamReads + 1 {
		read(streamSize)
	}
	if n := w.calls["splice in"]; n == 0 {
		t.Error("no splice after a row of big reads")
	}
	for range 10 {
		read(trickleSize - 1)
		read(trickleSize - 1)
		read(trickleSize)
	}
	if !s.half[toBackend].splicing {
		t.Error("two small fills in a row brought it back")
	}
	w.settled()
}

func TestRelayForced(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		c, b := s.pair()
		for range 20 {
			send(t, c, "a small message")
			expect(t, b, "a small message")
		}
		_, spliced := s.paths(20 * 15)
		if want := map[Relay]uint64{RelaySplice: 20 * 15}[relay]; spliced != want {
			t.Errorf("%d bytes of small messages were spliced, want %d", spliced, want)
		}
	})
}

// Without pipes splicing falls back to copying and is counted.
func TestRelayWithoutPipes(t *testing.T) {
	s := start(t, func(o *setup) { o.listener().Relay, o.maxPipes = RelaySplice, 0 })
	c, b := s.pair()
	send(t, c, "still arrives")
	expect(t, b, "still arrives")
	if _, spliced := s.paths(13); spliced != 0 || s.acceptors[0].cells.PipeFallbacks.Load() == 0 {
		t.Errorf("%d bytes spliced, %d fallbacks counted", spliced, s.acceptors[0].cells.PipeFallbacks.Load())
	}
}

// A reader that stops holds its sender by the socket buffers: sluice takes one buffer or
// one pipe out of the stream, and not more however long it lasts.
func TestBackPressure(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		c, b := s.pair()
		_ = c.SetReadBuffer(64 << 10)
		_ = b.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		sent, err := flood(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		cells := s.acceptors[0].cells
		spilled, lent := cells.SpillBytes.Load(), cells.PipesInUse.Load()
		if spilled+lent*pipeSize == 0 || spilled > bufferSize || lent > 1 || spilled > 0 && lent > 0 {
			t.Errorf("%d bytes spilled and %d pipes held by one half", spilled, lent)
		}
		turns := cells.Turns.Load()
		<-time.After(200 * time.Millisecond)
		if n := cells.Turns.Load() - turns; n > 40 {
			t.Errorf("%d turns in 200ms in which nothing could move", n)
		}
		b.Close()
		if n, err := io.Copy(io.Discard, c); n != int64(sent) || err != nil {
			t.Errorf("%d bytes of %d arrived, %v", n, sent, err)
		}
	})
}

// TestIntegrity sends random bytes in random chunks both ways at once, with half-closes
// at random moments: what is read is what was written.
func TestIntegrity(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		results := make(chan error, 100)
		for i := range 12 {
			c, b := s.pair()
			for d, ends := range [2][2]net.Conn{{c, b}, {b, c}} {
				seed := uint64(i*2 + d)
				var want, got [sha256.Size]byte
				wrote := make(chan error, 1)
				go func() { wrote <- writeRandom(ends[0].(*net.TCPConn), seed, &want) }()
				go func() {
					err := errors.Join(readRandom(ends[1], seed, &got), <-wrote)
					if err == nil && want != got {
						err = errors.New("read something else than was written")
					}
					results <- err
				}()
			}
		}
		for range 24 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// writeRandom writes up to 4 MiB in chunks of a byte to 256 KiB and ends with a FIN.
func writeRandom(c *net.TCPConn, seed uint64, sum *[sha256.Size]byte) error {
	r := rand.New(rand.NewPCG(seed, 1))
	source, hash := rand.NewChaCha8([32]byte{byte(seed)}), sha256.New()
	for left := 1 << r.IntN(23); left > 0; {
		chunk := make([]byte, min(left, 1+r.IntN(1<<r.IntN(19))))
		source.Read(chunk)
		hash.Write(chunk)
		if _, err := c.Write(chunk); err != nil {
			return err
		}
		left -= len(chunk)
	}
	hash.Sum(sum[:0])
	return c.CloseWrite()
}

// readRandom reads to the end, in chunks and with pauses.
func readRandom(c net.Conn, seed uint64, sum *[sha256.Size]byte) error {
	r, hash := rand.New(rand.NewPCG(seed, 2)), sha256.New()
	for {
		n, err := io.CopyN(hash, c, 1+r.Int64N(1<<r.IntN(20)))
		if n == 0 || err != nil {
			hash.Sum(sum[:0])
			if err == io.EOF {
				return nil
			}
			return err
		}
		if r.IntN(50) == 0 {
			<-time.After(time.Millisecond)
		}
	}
}

// The cells tell what was moved, each byte on both sides once.
func TestBytesAreCounted(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		s := start(t, func(o *setup) { o.listener().Relay = relay })
		c, b := s.pair()
		up, down := bytes.Repeat([]byte{'u'}, 3<<20), bytes.Repeat([]byte{'d'}, 5<<20)
		for _, way := range []struct {
			from, to *net.TCPConn
			bytes    []byte
		}{{c, b, up}, {b, c, down}} {
			go func() {
				way.from.Write(way.bytes)
				way.from.CloseWrite()
			}()
			if got, err := io.ReadAll(way.to); err != nil || !bytes.Equal(got, way.bytes) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		}
		s.settled()
		l, k := s.acceptors[0].web(), s.board.Target(0, metrics.NewID(0, 1))
		received := l.Received[metrics.PathCopy].Load() + l.Received[metrics.PathSplice].Load()
		sent := l.Sent[metrics.PathCopy].Load() + l.Sent[metrics.PathSplice].Load()
		if received != 3<<20 || sent != 5<<20 || k.Sent.Load() != received || k.Received.Load() != sent {
			t.Errorf("received %d, sent %d; to the backend %d, from it %d", received, sent, k.Sent.Load(), k.Received.Load())
		}
	})
}
