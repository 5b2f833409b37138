package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
)

// backendOrder is what the backend process is told on its standard input.
type backendOrder struct {
	Threads    int
	Greet      bool // send 64 bytes of the pattern on accept, before any request
	CheckAll   bool
	Everywhere bool // listen on all addresses
}

// question asks the backend process how many sessions it holds, and has it turn sick if Turn says so.
type question struct{ Turn sickness }

// serveBackend is the backend process: it listens, writes its address on out, serves and answers questions until in ends.
//
//	accept ─► (greeting) ─► head of a request ─► its Up bytes, while the answer's Down bytes go out ─► next head
func serveBackend(in io.Reader, out io.Writer) error {
	var order backendOrder
	orders := json.NewDecoder(in)
	if err := orders.Decode(&order); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	listener, at, err := listenSocket(order.Everywhere)
	if err != nil {
		return err
	}
	allowThreads(order.Threads)
	var sessions atomic.Int64
	ended := make(chan error, order.Threads+1)
	var all []*backend
	for range order.Threads {
		b, err := newBackend(listener, order, &sessions)
		if err != nil {
			return err
		}
		all = append(all, b)
		go func() { ended <- b.run() }()
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode(at); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	go func() {
		var q question
		for orders.Decode(&q) == nil {
			if q.Turn != "" {
				if err := turn(all, q.Turn); err != nil {
					ended <- err
					return
				}
			}
			answers.Encode(sessions.Load())
		}
		ended <- nil
	}()
	return <-ended
}

// backend is one thread of the backend process.
type backend struct {
	*loop
	listener int
	order    backendOrder
	clients  map[int]*client
	sessions *atomic.Int64 // of all threads
	sick     atomic.Value  // sickness
	late     []lateAnswer  // of one that is slow
}

// client is one accepted connection. headGot counts the bytes of the next head that have arrived.
type client struct {
	conn
	next    [headSize]byte
	headGot int
}

func newBackend(listener int, order backendOrder, sessions *atomic.Int64) (*backend, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	b := &backend{loop: l, listener: listener, order: order, clients: map[int]*client{}, sessions: sessions}
	return b, l.watchListener(listener)
}

func (b *backend) run() error {
	defer lockThread()()
	for {
		events, err := b.wait(b.answerLate())
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.fd == b.listener {
				err = b.accept()
			} else {
				b.serve(b.clients[e.fd], e)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (b *backend) accept() error {
	fd, again, err := acceptSocket(b.listener)
	if again || err != nil && b.sick.Load() == refusing {
		return nil
	}
	if err != nil {
		return err
	}
	if b.sick.Load() == closing {
		closeSocket(fd)
		return nil
	}
	c := &client{conn: conn{fd: fd}}
	b.clients[fd] = c
	b.sessions.Add(1)
	if err := b.watch(fd, false); err != nil {
		return err
	}
	if b.order.Greet {
		c.outLeft = tailSize
		if c.send(b.loop) != nil {
			b.end(c, closeSocket)
		}
	}
	return nil
}

// serve moves what one event allows. A client that leaves or resets is no fault: the load generator is the one to judge.
// Wrong bytes are: they are reported on standard error, and the client gets a reset.
func (b *backend) serve(c *client, e event) {
	if e.readable {
		n, again, err := readSocket(c.fd, b.buf)
		if err != nil || n == 0 && !again {
			b.end(c, closeSocket)
			return
		}
		if b.sick.Load() == silent {
			return
		}
		if err := c.receive(b.buf[:n], b.order.CheckAll); err != nil {
			fmt.Fprintln(os.Stderr, "backend:", err)
			b.end(c, resetSocket)
			return
		}
		b.delay(c)
	}
	if c.pending() && c.send(b.loop) != nil {
		b.end(c, closeSocket)
	}
}

func (b *backend) end(c *client, how func(fd int)) {
	delete(b.clients, c.fd)
	b.sessions.Add(-1)
	how(c.fd)
}

// receive takes bytes of heads and of requests, in whatever pieces they arrived.
func (c *client) receive(p []byte, all bool) error {
	for len(p) > 0 {
		if c.inLeft > 0 {
			n := int(min(int64(len(p)), c.inLeft))
			if err := c.take(p[:n], all); err != nil {
				return err
			}
			p = p[n:]
		} else {
			n := copy(c.next[c.headGot:], p)
			p = p[n:]
			c.headGot += n
			if c.headGot == headSize {
				r, err := parseHead(c.next[:])
				if err != nil {
					return err
				}
				if c.outLeft > 0 {
					return fmt.Errorf("a request before the last answer was out: %w", errWrongBytes)
				}
				c.headGot = 0
				c.inAt, c.inLeft = r.At, r.Up
				c.outAt, c.outLeft = r.At, r.Down
			}
		}
	}
	c.hold = 0
	if c.inLeft > 0 {
		c.hold = tailSize
	}
	return nil
}

// startBackend starts a backend process and returns its address.
func startBackend(order backendOrder) (*child, netip.AddrPort, error) {
	var at netip.AddrPort
	c, err := startSelf("_backend")
	if err != nil {
		return nil, at, err
	}
	if err = c.ask(order, &at); err != nil {
		c.stop()
		return nil, at, fmt.Errorf("start the backend: %w", err)
	}
	return c, at, nil
}
