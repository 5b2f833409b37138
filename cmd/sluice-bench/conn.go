package main

import (
	"errors"
	"fmt"
)

var errEndOfStream = errors.New("the other side ended the connection")

// conn is one socket of a loop, with what is still to go out and to come in.
//
//	out:  head ─► outLeft bytes of the pattern from outAt on
//	in:   inLeft bytes of the pattern from inAt on
type conn struct {
	fd      int
	waiting bool // watched for writing

	head    []byte
	outAt   uint64
	outLeft int64
	hold    int64 // of outLeft: not to be sent yet
	inAt    uint64
	inLeft  int64
}

// pending tells whether there is something to send now.
func (c *conn) pending() bool { return len(c.head) > 0 || c.outLeft > c.hold }

// send writes the head and at most writeSize bytes more, and has the loop watch for writing exactly while something is pending.
func (c *conn) send(l *loop) error {
	if len(c.head) > 0 {
		n, _, err := writeSocket(c.fd, c.head)
		if err != nil {
			return err
		}
		c.head = c.head[n:]
	}
	if len(c.head) == 0 && c.outLeft > c.hold {
		n, _, err := writeSocket(c.fd, patternAt(c.outAt, int(min(c.outLeft-c.hold, writeSize))))
		if err != nil {
			return err
		}
		c.outAt += uint64(n)
		c.outLeft -= int64(n)
	}
	if c.waiting != c.pending() {
		c.waiting = !c.waiting
		return l.rewatch(c.fd, c.waiting)
	}
	return nil
}

// take checks bytes that arrived and counts them off what is to come in. all: compare each byte, not a sample.
func (c *conn) take(p []byte, all bool) error {
	if int64(len(p)) > c.inLeft {
		return fmt.Errorf("%d bytes more than were asked for: %w", int64(len(p))-c.inLeft, errWrongBytes)
	}
	if err := checkPattern(p, c.inAt, all); err != nil {
		return err
	}
	c.inAt += uint64(len(p))
	c.inLeft -= int64(len(p))
	return nil
}
