package proxy

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkRelay moves messages of one size to the backend, each answered by a byte
// before the next: what a half that gets so much at a time costs by each way of moving.
// The crossover is where streamSize and trickleSize should lie.
//
// cpu-ns/KiB is the acceptor's thread alone; MB/s shares the machine with both ends.
func BenchmarkRelay(b *testing.B) {
	for size := 4 << 10; size <= 1<<20; size *= 2 {
		for relay, name := range []string{RelayAuto: "auto", RelaySplice: "splice", RelayCopy: "copy"} {
			b.Run(fmt.Sprintf("size=%dKiB/%s", size>>10, name), func(b *testing.B) {
				s := start(b, ownThread, func(o *setup) { o.listener().Relay = Relay(relay) })
				c, back := s.pair()
				go func() {
					for got, ack := make([]byte, size), []byte{1}; ; {
						if _, err := io.ReadFull(back, got); err != nil {
							return
						}
						if _, err := back.Write(ack); err != nil {
							return
						}
					}
				}()
				message, ack := make([]byte, size), make([]byte, 1)
				b.SetBytes(int64(size))
				b.ResetTimer()
				before := s.acceptors[0].cpu(b)
				for range b.N {
					if _, err := c.Write(message); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, ack); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(s.acceptors[0].cpu(b)-before)/float64(b.N*size>>10), "cpu-ns/KiB")
			})
		}
	}
}

// BenchmarkSession is a short connection: connect, request, answer, both ends close.
func BenchmarkSession(b *testing.B) {
	s := start(b, ownThread)
	p := newRawPeer(s)
	b.ReportAllocs()
	b.ResetTimer()
	before := s.acceptors[0].cpu(b)
	for range b.N {
		c, back := p.open()
		p.exchange(c, back)
		p.close(c, back)
	}
	b.ReportMetric(float64(s.acceptors[0].cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkRequest is a request and an answer of 100 bytes on a kept session.
func BenchmarkRequest(b *testing.B) {
	s := start(b, ownThread)
	p := newRawPeer(s)
	c, back := p.open()
	b.ReportAllocs()
	b.ResetTimer()
	before := s.acceptors[0].cpu(b)
	for range b.N {
		p.exchange(c, back)
	}
	b.ReportMetric(float64(s.acceptors[0].cpu(b)-before)/float64(b.N), "cpu-ns/op")
	p.close(c, back)
}

// ownThread keeps each loop on one thread, which may run on any CPU.
func ownThread(o *setup) {
	for i := range runtime.NumCPU() {
		o.cpus = append(o.cpus, i)
	}
}

// cpu is the processor time that the acceptor's thread has used, in nanoseconds.
func (a *Acceptor) cpu(b *testing.B) int64 {
	thread := int32(a.cells.ThreadID.Load())
	var ts unix.Timespec
	if err := unix.ClockGettime(^thread<<3|6, &ts); err != nil { // the clock of another thread, see clock_getcpuclockid(3)
		b.Fatal(err)
	}
	return ts.Nano()
}
