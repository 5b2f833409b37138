package control

import (
	"errors"
	"net"
	"sync"
	"time"

	"sluice/proxy"
)

// Faults of a request to a worker.
var (
	errWorkerSilent = errors.New("no answer in time")
	errWorkerGone   = errors.New("worker has gone")
)

// workerConn is the supervisor's end of the protocol with one worker process.
type workerConn struct {
	conn net.Conn
	gone chan struct{} // closed when no answer will come any more

	mu      sync.Mutex // guards what follows, and writes to conn
	last    uint64
	waiting map[uint64]chan message
}

// newWorkerConn takes over conn and reads from it until the worker has gone.
// Its notices are passed on.
func newWorkerConn(conn net.Conn, notices chan<- proxy.Notice) *workerConn {
	c := &workerConn{conn: conn, gone: make(chan struct{}), waiting: map[uint64]chan message{}}
	go c.listen(notices)
	return c
}

func (c *workerConn) listen(notices chan<- proxy.Notice) {
	defer close(c.gone)
	for {
		m, err := readMessage(c.conn)
		if err != nil {
			return
		}
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
// request failed, the worker has gone, or nothing came within the time.
func (c *workerConn) ask(m message, within time.Duration) (message, error) {
	answered := make(chan message, 1)
	c.mu.Lock()
	c.last++
	m.ID = c.last
	c.waiting[m.ID] = answered
	// A stopped worker reads nothing; once the socket is full the write must not wait.
	_ = c.conn.SetWriteDeadline(time.Now().Add(within))
	err := writeMessage(c.conn, m)
	c.mu.Unlock()
	if err != nil {
		c.forget(m.ID)
		return message{}, err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-answered:
		if a.Error != "" {
			return a, errors.New(a.Error)
		}
		return a, nil
	case <-c.gone:
		c.forget(m.ID)
		return message{}, errWorkerGone
	case <-timer.C:
		c.forget(m.ID)
		return message{}, errWorkerSilent
	}
}

func (c *workerConn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *workerConn) close() { c.conn.Close() }
