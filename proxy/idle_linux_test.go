package proxy

import (
	"io"
	"syscall"
	"testing"
	"time"
)

// A reader that is slow, and reads all the time, is not idle: what leaves its send queue is
// movement, though sluice has nothing more to write.
func TestSlowReaderIsNotIdle(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		const limit, size = 300 * time.Millisecond, 1 << 20
		s := start(t, func(o *setup) { o.listener().IdleTimeout, o.listener().Relay = limit, relay })
		c, b := s.pair()
		s.must(c.SetReadBuffer(16 << 10))
		go func() {
			_, _ = b.Write(make([]byte, size))
			b.CloseWrite()
		}()
		begin, part, got := time.Now(), make([]byte, 32<<10), 0
		for {
			n, err := io.ReadFull(c, part)
			if got += n; err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			s.must(err)
			<-time.After(limit / 8)
		}
		if took := time.Since(begin); got != size || took < 2*limit {
			t.Errorf("read %d of %d bytes in %v", got, size, took)
		}
	})
}

// One that has stopped is: its queue is looked at as the deadline comes, and again after as
// long a time.
func TestDrainingIsMovement(t *testing.T) {
	const limit = time.Second
	idle := func(p *Plan) { p.Listeners[0].IdleTimeout = limit }
	const late = 2 * tickLength
	for _, e := range []struct {
		name  string
		left  []int // in the queue at the first, second, ... deadline
		lives int   // how many deadlines it lives through
	}{
		{"nothing is left", []int{0}, 0},
		{"it has stopped", []int{500, 500}, 1},
		{"it reads for a while", []int{900, 500, 100, 100}, 3},
		{"all has arrived", []int{900, 500, 0}, 2},
	} {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, idle)
			w.relaying()
			w.unsent = e.left[0]
			w.pass(limit - tickLength)
			if n := w.calls["unsent"]; n != 0 {
				t.Errorf("%d looks before the deadline", n)
			}
			w.pass(tickLength + late)
			for i, left := range e.left {
				if i > 0 {
					w.unsent = left
					w.pass(limit + late)
				}
				if got, lives := w.ended(), i < e.lives; lives != (got == "") {
					t.Fatalf("closed as %q at deadline %d, which it lives through: %v", got, i+1, lives)
				}
			}
			if got := w.ended(); got != "idle_timeout" {
				t.Errorf("closed as %q", got)
			}
			w.settled()
		})
	}
}

// What cannot be asked is no movement.
func TestQueueCannotBeAsked(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].IdleTimeout = time.Second })
	w.relaying()
	w.unsent, w.faults["unsent"] = 7, always(syscall.EPERM)
	w.pass(time.Second + 2*tickLength)
	if got := w.ended(); got != "idle_timeout" {
		t.Errorf("closed as %q", got)
	}
	w.settled()
}

// A loop that did not turn for a while reads first, and judges then.
func TestDeadlineAfterWhatCame(t *testing.T) {
	for _, stopped := range []time.Duration{2 * time.Second, time.Hour} {
		w := newWorld(t, func(p *Plan) {
			p.Listeners[0].IdleTimeout, p.Listeners[0].FirstByteTimeout = time.Second, time.Second
		})
		s, f := w.relaying()
		f[client].in = []byte("in time")
		w.elapsed += stopped
		w.turn(w.on(s.fd[client], epollIn))
		if got := string(f[backend].out); got != "in time" || s.state != stateRelaying {
			t.Errorf("stopped for %v: the backend got %q; closed as %q", stopped, got, w.ended())
		}
		w.settled()
	}
}

// Where epoll has more to tell than one turn takes, deadlines wait; not for ever.
func TestDeadlineWaitsForAllEvents(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].IdleTimeout = time.Second })
	s, f := w.relaying()
	f[client].in = []byte("in time")
	w.elapsed += 2 * time.Second
	full := func() {
		for len(w.events) < maxEvents {
			w.events = append(w.events, syscall.EpollEvent{Pad: padWake})
		}
		w.once()
	}
	full() // the loop hears of s in the turn after this one
	w.turn(w.on(s.fd[client], epollIn))
	if s.state != stateRelaying {
		t.Fatalf("closed as %q, though its bytes had come", w.ended())
	}
	w.elapsed += 2 * time.Second
	for range maxBehind + 1 {
		full()
	}
	if got := w.ended(); got != "idle_timeout" {
		t.Errorf("closed as %q while events keep coming", got)
	}
	w.settled()
}
