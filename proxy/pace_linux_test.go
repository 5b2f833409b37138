package proxy

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/metrics"
)

// atRate bounds what goes to backends.
func atRate(session, all int64) func(*setup) {
	return func(o *setup) {
		o.listener().Paces.Session[toBackend], o.listener().Paces.All[toBackend] = paceOf(session), paceOf(all)
	}
}

// paceOf has a burst of what a second brings.
func paceOf(rate int64) Pace { return Pace{Rate: rate, Burst: rate} }

// drawn writes random bytes to c until it is closed, and says what they hash to.
func drawn(c net.Conn, seed uint64, n int) <-chan []byte {
	sum := make(chan []byte, 1)
	go func() {
		h, r := sha256.New(), rand.NewChaCha8([32]byte{byte(seed)})
		part := make([]byte, 64<<10)
		for n > 0 {
			part = part[:min(n, len(part))]
			_, _ = r.Read(part)
			m, err := c.Write(part)
			h.Write(part[:m])
			if n -= m; err != nil {
				break
			}
		}
		sum <- h.Sum(nil)
	}()
	return sum
}

// reader counts what it reads.
type reader struct {
	mu sync.Mutex
	n  int
	h  hash.Hash
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += len(p)
	return r.h.Write(p)
}

func (r *reader) got() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func reading(c net.Conn) *reader {
	r := &reader{h: sha256.New()}
	go func() { _, _ = io.Copy(r, c) }()
	return r
}

// A session has its rate, whichever way it is moved and however many there are beside it:
// never more, and at most what it sleeps on less. It costs no turns in between.
func TestPaceOfSessions(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		const rate, sessions = 2 << 20, 5
		s := start(t, func(o *setup) { o.acceptors, o.listener().Relay = 2, relay }, atRate(rate, 0))
		var all []*reader
		var began [sessions]time.Time
		for i := range sessions {
			began[i] = time.Now()
			c, b := s.pair()
			drawn(c, uint64(i), 1<<30)
			all = append(all, reading(b))
		}
		for _, r := range all {
			waitFor(t, "the burst", func() bool { return r.got() >= rate })
		}
		eachGets := func(after []int, bytes int) {
			t.Helper()
			for i, r := range all {
				waitFor(t, "each to get its rate", func() bool { return r.got() >= after[i]+bytes })
			}
		}
		eachGets(got(all), rate*3/10) // the burst is over by now
		turns, from, before := s.turns(), time.Now(), got(all)
		eachGets(before, rate/2)
		// 5 x 10 wake-ups a second of a few turns each, and their events
		if n, took := float64(s.turns()-turns), time.Since(from); n > 1000*took.Seconds() {
			t.Errorf("%.0f turns in %v", n, took)
		}
		const late = 200 * time.Millisecond // a portion of a tenth of a second, and two ticks
		for i, r := range all {
			waitFor(t, "all of a session's rate", func() bool { // on a busy machine it makes up for it
				n := float64(r.got())
				if most := (time.Since(began[i]) + time.Second).Seconds() * rate; n > most {
					t.Fatalf("session %d has %.0f bytes, more than %.0f", i, n, most)
				}
				return n > float64(before[i])+(time.Since(from)-late).Seconds()*rate
			})
		}
		fallbacks := s.total(func(c *metrics.AcceptorCells) int64 { return int64(c.PipeFallbacks.Load()) }) // a user without privileges has few pipes
		if _, spliced := s.pathsNow(); relay == RelayCopy && spliced > 0 || relay != RelayCopy && spliced+uint64(fallbacks) == 0 {
			t.Errorf("%d bytes spliced, %d fallbacks", spliced, fallbacks)
		}
	})
}

func got(all []*reader) (n []int) {
	for _, r := range all {
		n = append(n, r.got())
	}
	return n
}

func (s *service) turns() int64 {
	return s.total(func(c *metrics.AcceptorCells) int64 { return int64(c.Turns.Load()) })
}

func (s *service) pathsNow() (copied, spliced uint64) {
	for _, a := range s.acceptors {
		copied += a.web().Received[metrics.PathCopy].Load()
		spliced += a.web().Received[metrics.PathSplice].Load()
	}
	return copied, spliced
}

// All sessions of a listener have a rate together, whichever acceptors they are with, and
// equal shares of it.
func TestPaceOfAll(t *testing.T) {
	const rate, sessions = 4 << 20, 20
	s := start(t, func(o *setup) { o.acceptors = 2 }, atRate(0, rate))
	began := time.Now()
	var all []*reader
	for i := range sessions {
		c, b := s.pair()
		drawn(c, uint64(i), 1<<30)
		all = append(all, reading(b))
	}
	sum := func(n []int) (sum int) {
		for _, x := range n {
			sum += x
		}
		return sum
	}
	waitFor(t, "the burst to be over", func() bool { return sum(got(all)) > rate*12/10 })
	from, before := time.Now(), got(all)
	waitFor(t, "five portions for each", func() bool { return sum(got(all)) > sum(before)+rate*3/2 })
	after := got(all)
	waitFor(t, "all of the rate", func() bool {
		n, per := float64(sum(got(all))), float64(rate)
		if most := (time.Since(began) + time.Second).Seconds() * per; n > most {
			t.Fatalf("%.0f bytes, more than %.0f", n, most)
		}
		return n > float64(sum(before))+(time.Since(from)-200*time.Millisecond).Seconds()*per
	})
	for i := range all { // about five portions each
		if x := float64(after[i]-before[i]) * sessions / float64(sum(after)-sum(before)); x < .5 || x > 1.5 {
			t.Errorf("session %d has %.2f of its share", i, x)
		}
	}
}

// What is held back arrives whole, and the end behind it; a session that waits is not idle,
// in no state of its halves.
func TestPaceKeepsAllAndItsEnd(t *testing.T) {
	eachRelay(t, func(t *testing.T, relay Relay) {
		const rate, size = 400 << 10, 700 << 10
		s := start(t, func(o *setup) {
			l := o.listener()
			l.Relay, l.Paces.Session = relay, [2]Pace{paceOf(rate), paceOf(rate)}
			l.IdleTimeout, l.HalfClosedTimeout = 60*time.Millisecond, 60*time.Millisecond
		})
		c, b := s.pair()
		begin, up, down := time.Now(), drawn(c, 1, size), drawn(b, 2, size)
		sums := make(chan [32]byte, 2)
		read := func(from net.Conn) {
			data, err := io.ReadAll(from)
			if err != nil || len(data) != size {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			sums <- sha256.Sum256(data)
		}
		go read(b)
		want := <-up
		s.must(c.CloseWrite())
		if sum := <-sums; !bytes.Equal(sum[:], want) {
			t.Error("the backend got something else")
		}
		if took, least := time.Since(begin), time.Second*(size-rate)/rate; took < least || took > least+500*time.Millisecond {
			t.Errorf("%d bytes took %v", size, took)
		}
		go read(c)
		want = <-down
		s.must(b.CloseWrite())
		if sum := <-sums; !bytes.Equal(sum[:], want) {
			t.Error("the client got something else")
		}
		s.closed(metrics.ReasonClientEOF, 1)
		if l := s.acceptors[0].web(); l.HeldBack[toBackend].Load() == 0 || l.HeldBackNanos[toBackend].Load() < uint64(300*time.Millisecond) {
			t.Errorf("held back %d times, for %v", l.HeldBack[toBackend].Load(), time.Duration(l.HeldBackNanos[toBackend].Load()))
		}
	})
}

// A reload lets sessions go that wait, or holds them back, also where they would have waited
// for minutes.
func TestPaceChanges(t *testing.T) {
	const slow, size = 2 << 10, 8 << 20
	s := start(t, atRate(slow, slow))
	c, b := s.pair()
	drawn(c, 1, 1<<30)
	r := reading(b)
	waitFor(t, "the burst", func() bool { return r.got() >= slow })
	again := func(session, all int64) {
		next := s.renewed()
		next.Listeners[0].Paces = Paces{Session: [2]Pace{paceOf(session)}, All: [2]Pace{paceOf(all)}}
		s.board.Spent()[webID.Index()][toBackend].Store(0)
		s.apply(next)
	}
	again(0, 0)
	waitFor(t, "it to fly", func() bool { return r.got() > size })
	held := s.acceptors[0].web().HeldBack[toBackend].Load
	times := held()
	again(slow, 0)
	waitFor(t, "it to be held back, and what lies in sockets to drain", func() bool {
		copied, spliced := s.pathsNow()
		return held() > times && r.got() == int(copied+spliced)
	})
	from, before := time.Now(), r.got()
	times = held()
	waitFor(t, "it to be held back once more", func() bool { return held() > times })
	if n, most := float64(r.got()-before), (time.Since(from)+time.Second).Seconds()*slow; n > most {
		t.Errorf("%.0f bytes after it was slowed down, more than %.0f", n, most)
	}
	again(0, 20<<20)
	before = r.got()
	waitFor(t, "it to go on", func() bool { return r.got() > before+size })
}

// What a session had booked is given back when it ends, and what it does not use at once.
func TestPaceGivesBack(t *testing.T) {
	const rate = 1 << 20
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Paces.All[toBackend] = paceOf(rate) })
	s, f := w.relaying()
	spent := func() time.Duration {
		return time.Duration(max(w.a.Board.Spent()[webID.Index()][toBackend].Load()-w.a.now, 0)) * rate / (1 << 20)
	}
	f[client].in = make([]byte, 1000)
	w.turn(w.on(s.fd[client], epollIn))
	if got := spent(); got > 2*time.Millisecond || len(f[backend].out) != 1000 {
		t.Errorf("1,000 bytes cost %v, %d are there", got, len(f[backend].out))
	}
	f[client].in = make([]byte, 2*rate)
	w.turn(w.on(s.fd[client], epollIn))
	if got := len(f[backend].out); s.half[toBackend].wake == 0 || got < rate*94/100 || got > rate*101/100 {
		t.Fatalf("%d bytes at once, and it wakes at %d", got, s.half[toBackend].wake)
	}
	before := spent()
	w.a.end(0, s, cutFor(metrics.ReasonInternal))
	if got := before - spent(); got < 40*time.Millisecond {
		t.Errorf("its end gives back %v", got)
	}
	w.settled()
}

// Nothing is lost by sleeping: after ten seconds a session has what it may to a percent, at
// any rate, and so have a listener's together.
func TestPaceIsExact(t *testing.T) {
	for _, rate := range []int64{100, 3 << 10, 512 << 10} {
		for name, paces := range map[string]Paces{"session": {Session: [2]Pace{paceOf(rate)}}, "all": {All: [2]Pace{paceOf(rate)}}} {
			w := newWorld(t, func(p *Plan) { p.Listeners[0].Paces = paces })
			s, f := w.relaying()
			f[client].in, f[backend].out = make([]byte, 12*rate), make([]byte, 0, 12*rate)
			w.turn(w.on(s.fd[client], epollIn))
			w.pass(10 * time.Second)
			if n, want := int64(len(f[backend].out)), 11*rate; n > want || n < want*98/100-min(minPortion, rate) {
				t.Errorf("%s: %d bytes at a rate of %d, want %d", name, n, rate, want)
			}
			w.settled()
		}
	}
}

// Events of a session that waits cost nothing but a look.
func TestPaceSleeps(t *testing.T) {
	w := newWorld(t, func(p *Plan) {
		p.Listeners[0].Paces.Session[toBackend] = paceOf(100 << 10)
		p.Listeners[0].IdleTimeout = 20 * time.Millisecond
	})
	s, f := w.relaying()
	f[client].in = make([]byte, 300<<10)
	w.turn(w.on(s.fd[client], epollIn))
	reads, turns := w.calls["read"], w.a.cells.Turns.Load()
	for range 100 {
		w.turn(w.on(s.fd[client], epollIn))
	}
	if n := w.calls["read"] - reads; n != 0 {
		t.Errorf("%d reads while it waits", n)
	}
	if n := w.a.cells.Turns.Load() - turns; n != 100 {
		t.Errorf("%d turns for 100 events", n)
	}
	w.pass(time.Second)
	if got := len(f[backend].out); got < 180<<10 || got > 202<<10 {
		t.Errorf("%d bytes after a second", got)
	}
	f[backend].room = 0 // a receiver that takes nothing: now it is idle
	w.faults["write"] = always(syscall.EAGAIN)
	w.pass(time.Second)
	if got := w.ended(); got != "idle_timeout" {
		t.Errorf("closed as %q", got)
	}
	w.settled()
}

// The end of a broken connection comes after what it had sent, at its rate.
func TestPaceOfBroken(t *testing.T) {
	w := newWorld(t, func(p *Plan) { p.Listeners[0].Paces.Session[toBackend] = paceOf(100 << 10) })
	s, f := w.relaying()
	f[client].in, f[client].err = make([]byte, 250<<10), syscall.ECONNRESET
	f[backend].in = []byte("too late")
	w.turn(w.on(s.fd[client], epollIn|epollErr|epollHup|epollRdhup), w.on(s.fd[backend], epollIn))
	if s.half[toBackend].wake == 0 {
		t.Fatalf("it does not wait; closed as %q", w.ended())
	}
	w.pass(time.Second)
	if got := w.ended(); got != "" {
		t.Errorf("closed as %q with bytes left", got)
	}
	w.pass(time.Second)
	if got := w.ended(); got != "client_reset" || len(f[backend].out) != 250<<10 {
		t.Errorf("closed as %q after %d bytes", got, len(f[backend].out))
	}
	w.settled()
}
