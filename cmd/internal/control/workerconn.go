package control

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice/proxy"
)

// Faults of a request to a worker.
var (
	errWorkerSilent = errors.New("no answer in time")
	errWorkerGone   = errors.New("worker has gone")
)

// maxUnread is how many requests a worker may leave unread. A stopped one finds them
// when it goes on; those that come when the queue is full are lost to it.
const maxUnread = 64

// workerConn is the supervisor's end of the protocol with one worker process.
//
//	ask ─► requests ─► speak ─► conn ─► listen ─► the ask that waits for it, or notices
type workerConn struct {
	conn     net.Conn
	requests chan []byte   // frames, written whole and in this order
	gone     chan struct{} // closed when no answer will come any more
	silent   atomic.Bool   // it did not answer in time, and said nothing since

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan message
}

// newWorkerConn takes over conn and reads from it until the worker has gone.
// Its notices are passed on, none after close has returned.
func newWorkerConn(conn net.Conn, notices chan<- proxy.Notice) *workerConn {
	c := &workerConn{
		conn: conn, requests: make(chan []byte, maxUnread), gone: make(chan struct{}),
		waiting: map[uint64]chan message{},
	}
	go c.speak()
	go c.listen(notices)
	return c
}

// speak ends when conn is closed, like listen, however long a write has to wait.
func (c *workerConn) speak() {
	for {
		select {
		case frame := <-c.requests:
			if _, err := c.conn.Write(frame); err != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}

func (c *workerConn) listen(notices chan<- proxy.Notice) {
	defer close(c.gone)
	for {
		m, err := readMessage(c.conn)
		if err != nil {
			return
		}
		c.silent.Store(false)
		if m.Kind == kindNotice {
			select {
			case notices <- *m.Notice:
			default: // the counters tell the rest
			}
			continue
		}
		c.mu.Lock()
		answered := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if answered != nil {
			answered <- m
		}
	}
}

// ask sends a request and returns the answer, or an error when it says that the
// request failed, the worker has gone, or nothing came within the time. A worker that
// owes an answer already is sent the request, and not waited for again.
func (c *workerConn) ask(m message, within time.Duration) (message, error) {
	answered := make(chan message, 1)
	c.mu.Lock()
	c.last++
	m.ID = c.last
	c.waiting[m.ID] = answered
	c.mu.Unlock()
	defer c.forget(m.ID)

	if err := c.post(m); err != nil {
		return message{}, err
	}
	if c.silent.Load() {
		return message{}, errWorkerSilent
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-answered:
		return a, a.fault()
	case <-c.gone:
	case <-timer.C:
		c.silent.Store(true)
		return message{}, errWorkerSilent
	}
	select {
	case a := <-answered: // its last word
		return a, a.fault()
	default:
		return message{}, errWorkerGone
	}
}

// post sends a request and does not wait for its answer. A worker that has left too
// much unread does not get it.
func (c *workerConn) post(m message) error {
	frame, err := m.frame()
	if err != nil {
		return err
	}
	select {
	case c.requests <- frame:
		return nil
	default:
		return errWorkerSilent
	}
}

// fault is the error that an answer tells of.
func (m *message) fault() error {
	if m.Error == "" {
		return nil
	}
	return errors.New(m.Error)
}

func (c *workerConn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *workerConn) close() {
	c.conn.Close()
	<-c.gone
}
