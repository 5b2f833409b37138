package host

import (
	"errors"
	"net"
	"time"

	"sluice/proxy"
)

// Faults of an order to a worker.
var (
	errWorkerSilent = errors.New("no answer in time")
	errWorkerGone   = errors.New("worker has gone")
)

// workerConn is the supervisor's end of the protocol with one worker process. One
// order is under way at a time, from one goroutine.
//
//	say, give ─► conn ─► the worker ─► listen ─► answer, or notices
type workerConn struct {
	conn    net.Conn
	last    uint64        // the id of the last order
	answers chan message  // has room for one: more are not owed
	gone    chan struct{} // closed when no answer will come any more
}

// newWorkerConn takes over conn and reads from it until the worker has gone.
// Its notices are passed on as those of its seat, none after close has returned.
// Answers to surveys go to surveyed, which must not wait.
func newWorkerConn(conn net.Conn, seat int, notices chan<- proxy.Notice, surveyed func(seat int, m *message)) *workerConn {
	c := &workerConn{conn: conn, answers: make(chan message, 1), gone: make(chan struct{})}
	go c.listen(seat, notices, surveyed)
	return c
}

// listen takes nothing from the worker that is not waited for.
func (c *workerConn) listen(seat int, notices chan<- proxy.Notice, surveyed func(int, *message)) {
	defer close(c.gone)
	for {
		m, err := readMessage(c.conn, answerLimit)
		if err != nil {
			return
		}
		switch m.Kind {
		case kindNotice:
			m.Notice.Acceptor = seat
			select {
			case notices <- *m.Notice:
			default: // the counters tell the rest
			}
		case kindSurveyed:
			surveyed(seat, &m)
		case kindDone:
			select {
			case c.answers <- m:
			default:
			}
		}
	}
}

// say sends an order, after a frame that the worker needs for it, and returns its id. It
// takes as long as the worker takes to read.
func (c *workerConn) say(m message, before []byte) (id uint64, err error) {
	frame, err := c.number(&m)
	if err != nil {
		return 0, err
	}
	for _, f := range [][]byte{before, frame} {
		if _, err := c.conn.Write(f); err != nil {
			return 0, err
		}
	}
	return m.ID, nil
}

// give sends an order with descriptors and never waits.
func (c *workerConn) give(m message, fds []int) (id uint64, err error) {
	frame, err := c.number(&m)
	if err != nil {
		return 0, err
	}
	return m.ID, sendRights(c.conn, frame, fds)
}

func (c *workerConn) number(m *message) (frame []byte, err error) {
	c.last++
	m.ID = c.last
	return m.frame()
}

// answer returns what the worker answers to an order, if it does so within the time;
// within 0, as long as it lives.
func (c *workerConn) answer(id uint64, within time.Duration) (message, error) {
	var late <-chan time.Time
	if within > 0 {
		timer := time.NewTimer(within)
		defer timer.Stop()
		late = timer.C
	}
	for {
		select {
		case m := <-c.answers:
			if m.ID == id {
				return m, nil
			}
		case <-late:
			return message{}, errWorkerSilent
		case <-c.gone:
			select {
			case m := <-c.answers: // its last word
				if m.ID == id {
					return m, nil
				}
			default:
			}
			return message{}, errWorkerGone
		}
	}
}

// rest waits; false if the worker goes meanwhile.
func (c *workerConn) rest(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-c.gone:
		return false
	}
}

// fault is the error that an answer tells of.
func (m *message) fault() error {
	if m.Error == "" {
		return nil
	}
	return errors.New(m.Error)
}

func (c *workerConn) close() {
	c.conn.Close()
	<-c.gone
}
