package main

import (
	"errors"
	"fmt"
	"time"
)

// sickness is what ails a backend.
type sickness string

const (
	blackholed sickness = "blackholed" // SYNs to it are dropped; the sessions that it has go on
	refusing   sickness = "refusing"   // nothing listens
	closing    sickness = "closing"    // it takes connections, and closes them at once
	silent     sickness = "silent"     // it takes connections, and answers none
	slow       sickness = "slow"       // it answers slowAnswer late
)

const slowAnswer = 200 * time.Millisecond

// turn makes the backends of a process sick.
func turn(backends []*backend, s sickness) error {
	for _, b := range backends {
		b.sick.Store(s)
	}
	at := backends[0].listener
	switch s {
	case blackholed:
		return dropPackets(at)
	case refusing:
		for _, b := range backends {
			if err := b.unwatch(at); err != nil {
				return err
			}
		}
		return endListening(at)
	case closing, silent, slow:
	default:
		return fmt.Errorf("unknown sickness %q", s)
	}
	return nil
}

// delay has an answer that is ready wait, if the backend is slow.
func (b *backend) delay(c *client) {
	if b.sick.Load() == slow && c.inLeft == 0 {
		c.hold = c.outLeft
		b.late = append(b.late, lateAnswer{c, time.Now().Add(slowAnswer)})
	}
}

// lateAnswer is one that goes out at a time.
type lateAnswer struct {
	to *client
	at time.Time
}

// answerLate sends the answers that are due, and returns how long the loop may wait for the next.
func (b *backend) answerLate() time.Duration {
	for len(b.late) > 0 {
		c, left := b.late[0].to, time.Until(b.late[0].at)
		if left > 0 {
			return min(left, time.Second)
		}
		b.late = b.late[1:]
		if b.clients[c.fd] != c { // it has gone
			continue
		}
		c.hold = 0
		if c.send(b.loop) != nil {
			b.end(c, closeSocket)
		}
	}
	return time.Second
}

// measureSick measures what short sessions that come at a pace meet while a backend of the pool turns sick: a fifth of the time all
// are well.
func measureSick(r *rig, c *benchCase) (figures, error) {
	if c.proxy.config == nil {
		return nil, errNotMeasurable{"it has one backend"}
	}
	if _, err := r.do(step{Do: "run", Time: c.lasts / 5}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	turned := make(chan error, 1)
	time.AfterFunc(c.lasts/5, func() {
		var held int
		turned <- r.others[len(r.others)-1].ask(question{Turn: c.pooled.sick}, &held)
	})
	done, err := r.do(step{Do: "run", Time: c.lasts})
	if err := errors.Join(err, <-turned); err != nil {
		return nil, err
	}
	f := latencies(done)
	f["failed"] = float64(done.Failed) / float64(done.Done)
	return f, nil
}
