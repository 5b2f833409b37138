package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// generator is one thread of the load process: the client side of the sessions. In a step it keeps the asked number of sessions
// busy and starts the next one when one is done, or at the pace of the job, until all are done or the time of the step is up.
//
//	held    dial ─► established ─► IDLE ◄─ request, answer ─► IDLE
//	stream  dial ─► established ─► request, answer, request, answer ...
//	short   dial ─► (greeting) ─► request, answer ─► closed
type generator struct {
	*loop
	job      job
	sessions map[int]*session // by descriptor
	idle     []*session       // held ones; the first has waited longest
	patient  []*session       // short ones of a job with patience, some of them done; the first was begun first
	position uint64           // in the pattern, of the next request: different for each
	dials    int

	// Of the step that runs:
	opening    bool
	began      time.Time
	until      time.Time // of a step that lasts a time: nothing begins after it
	next       time.Time // of a job with a pace: nothing begins before it
	todo       int       // sessions to open, or requests or short sessions to run
	busy, done int       // of todo
	failed     int       // of done
	latencies  histogram
	elapsed    time.Duration
	streamed   float64 // bytes of streams, in the end per second
	err        error
}

type session struct {
	conn
	kind        sessionKind
	established bool
	asked       bool // the request is out or on its way, the answer is due
	begun       time.Time
}

type sessionKind int

const (
	held sessionKind = iota
	stream
	short
)

// streamRequest is what each stream asks for, again and again.
var streamRequest = request{Down: 64 << 20}

// openAtOnce bounds the connections in progress while held sessions are opened: below any backlog.
const openAtOnce = 64

var errNoAnswer = errors.New("no answer in time")

// streams tells whether the generator has the streams, and no clients.
func (g *generator) streams() bool { return g.job.Streams > 0 }

// do does a step. over: the clients are done, so the streams may pause.
func (g *generator) do(s step, over *atomic.Bool) {
	g.began, g.until = time.Now(), time.Time{}
	g.next = g.began
	g.todo, g.busy, g.done, g.failed = s.Count, 0, 0, 0
	if s.Time > 0 {
		g.todo, g.until = math.MaxInt, g.began.Add(s.Time)
	}
	g.latencies, g.elapsed, g.streamed, g.err = histogram{}, 0, 0, nil
	switch s.Do {
	case "open":
		g.todo, g.until = g.job.Held+g.job.Streams, time.Time{}
		g.opening = true
		g.err = g.run()
		g.opening = false
	case "run":
		if g.streams() {
			g.err = g.stream(over)
		} else {
			g.err = g.run()
		}
	case "close":
		for _, s := range g.sessions {
			g.end(s)
		}
		g.idle, g.patient = nil, nil
	default:
		g.err = fmt.Errorf("unknown step %q", s.Do)
	}
}

// run turns the loop until the step is done.
func (g *generator) run() error {
	for {
		if err := g.start(); err != nil {
			return err
		}
		if g.done == g.todo {
			return nil
		}
		if time.Since(g.began) > stepLimit {
			return fmt.Errorf("%d are out, %d done: %w", g.busy, g.done, errNoAnswer)
		}
		if err := g.turn(g.pause()); err != nil {
			return err
		}
		if err := g.expire(); err != nil {
			return err
		}
	}
}

// stream reads the streams until the clients are done.
func (g *generator) stream(over *atomic.Bool) error {
	for !over.Load() {
		if err := g.turn(longestPause); err != nil {
			return err
		}
	}
	g.streamed /= time.Since(g.began).Seconds()
	return nil
}

// longestPause is how long a loop waits at most: then it looks at its deadlines.
const longestPause = 50 * time.Millisecond

// pause is how long the loop may wait until something is due. Where nothing may begin now, nothing is.
func (g *generator) pause() time.Duration {
	limit := longestPause
	if g.job.Every > 0 && g.busy < max(g.job.Short, g.job.InFlight) && g.busy+g.done < g.todo {
		limit = min(limit, time.Until(g.next))
	}
	if !g.until.IsZero() {
		limit = min(limit, time.Until(g.until))
	}
	return max(limit, 0)
}

// turn serves what becomes ready within limit.
func (g *generator) turn(limit time.Duration) error {
	events, err := g.wait(limit)
	if err != nil {
		return err
	}
	for _, e := range events {
		s := g.sessions[e.fd]
		if err := g.settle(s, g.serve(s, e)); err != nil {
			return err
		}
	}
	return nil
}

// start begins as much of the step as may run at the same time.
func (g *generator) start() error {
	if !g.until.IsZero() && time.Now().After(g.until) {
		g.todo, g.until = g.busy+g.done, time.Time{}
	}
	for g.busy+g.done < g.todo {
		var err error
		switch {
		case g.opening:
			if g.busy == openAtOnce {
				return nil
			}
			kind := held
			if g.busy+g.done >= g.job.Held {
				kind = stream
			}
			g.busy++
			err = g.dial(kind)
		case g.job.Short > 0:
			if g.busy == g.job.Short || g.job.Every > 0 && time.Now().Before(g.next) {
				return nil
			}
			g.next = g.next.Add(g.job.Every)
			g.busy++
			err = g.dial(short)
		default:
			now := time.Now()
			if g.busy == g.job.InFlight || now.Before(g.next) {
				return nil
			}
			g.next = now.Add(g.job.Every)
			g.busy++
			s := g.idle[0]
			g.idle = g.idle[1:]
			s.begun = now
			err = g.settle(s, g.ask(s, g.job.Request))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) dial(kind sessionKind) error {
	begun := time.Now()
	// Several source addresses: more four-tuples, and hashes that differ by more than the port.
	from := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + g.dials%8)})
	g.dials++
	fd, err := dialSocket(from, g.job.Target)
	if err != nil {
		return err
	}
	s := &session{conn: conn{fd: fd}, kind: kind, begun: begun}
	g.sessions[fd] = s
	if kind != short {
		s.waiting = true // for the connection
		return g.watch(fd, true)
	}
	if g.job.Patience > 0 {
		g.patient = append(g.patient, s)
	}
	s.established = true // send finds out: on loopback it usually is already
	if err := g.watch(fd, false); err != nil {
		return err
	}
	if g.job.Greeting {
		s.inLeft = tailSize
		return nil
	}
	return g.settle(s, g.ask(s, g.job.Request))
}

func (g *generator) ask(s *session, r request) error {
	r.At = g.position
	g.position += 4099
	s.asked = true
	s.head = r.head()
	s.outAt, s.outLeft = r.At, r.Up
	s.inAt, s.inLeft = r.At, r.Down
	return s.send(g.loop)
}

// serve moves what one event allows. The end of the stream is always too early: it is the client that closes.
func (g *generator) serve(s *session, e event) error {
	if e.readable {
		n, again, err := readSocket(s.fd, g.buf)
		if err != nil {
			return err
		}
		if n == 0 && !again {
			return errEndOfStream
		}
		if err := s.take(g.buf[:n], g.job.CheckAll); err != nil {
			return err
		}
		if s.kind == stream {
			g.streamed += float64(n)
		}
		if s.inLeft == 0 && n > 0 {
			return g.answered(s)
		}
	}
	if e.writable {
		if !s.established {
			return g.opened(s)
		}
		return s.send(g.loop)
	}
	return nil
}

func (g *generator) opened(s *session) error {
	s.established = true
	g.count(time.Since(s.begun))
	if s.kind == held {
		g.idle = append(g.idle, s)
		return s.send(g.loop) // nothing: ends the waiting
	}
	return g.ask(s, streamRequest)
}

// answered: all bytes that were to come have come, of the answer or of the greeting.
func (g *generator) answered(s *session) error {
	switch {
	case !s.asked:
		return g.ask(s, g.job.Request)
	case s.kind == stream:
		return g.ask(s, streamRequest)
	}
	g.count(time.Since(s.begun))
	s.asked = false
	if s.kind == held {
		g.idle = append(g.idle, s)
	} else {
		g.end(s)
	}
	return nil
}

// settle decides what an error of a session means: it counts as failed if it is a short one of a job with patience; else it ends
// the step.
func (g *generator) settle(s *session, err error) error {
	if err == nil {
		return nil
	}
	if s.kind != short || g.job.Patience == 0 {
		return fmt.Errorf("session with %v, %d done: %w", g.job.Target, g.done, err)
	}
	g.failed++
	g.count(g.job.Patience)
	g.end(s)
	return nil
}

// expire settles the sessions that have used up the patience.
func (g *generator) expire() error {
	for len(g.patient) > 0 {
		s := g.patient[0]
		if g.sessions[s.fd] == s { // else it is done
			if time.Since(s.begun) <= g.job.Patience {
				return nil
			}
			if err := g.settle(s, errNoAnswer); err != nil {
				return err
			}
		}
		g.patient = g.patient[1:]
	}
	return nil
}

func (g *generator) count(latency time.Duration) {
	g.latencies.add(latency)
	g.elapsed = time.Since(g.began)
	g.busy--
	g.done++
}

func (g *generator) end(s *session) {
	delete(g.sessions, s.fd)
	closeSocket(s.fd)
}
