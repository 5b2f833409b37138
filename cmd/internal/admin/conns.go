package admin

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// conns bounds the connections of one http.Server. When there are max, a new one takes
// the place of the one that has waited longest for a request, which HTTP lets a server
// close at any time: idle and half-sent ones keep no other out. If none waits, it
// takes that of the one that has been answered for longest, unless that is younger
// than patience. Else the new one is closed at once: a queue would only hide it.
//
//	Accept ─► waiting (no request, or only a part of one yet) ─request─► answering ─┐
//	             │    ▲                                                             │
//	             │    └──────────────── kept alive ─────────────────────────────────┤
//	             └─ its place is needed, too late ─► closed ◄─ an end, too slow ────┘
type conns struct {
	max      int
	patience time.Duration // 0 = an answer is never cut for a new connection
	shed     atomic.Uint64 // closed because there were max

	mu        sync.Mutex
	waiting   list.List // of *place, the longest first
	answering list.List // of *place, the longest first
	all       map[net.Conn]*place
}

// place is a connection that counts, in one of the lists.
type place struct {
	conn  net.Conn
	in    *list.List
	at    *list.Element
	since time.Time // it is in this list
}

func newConns(max int, patience time.Duration) *conns {
	return &conns{max: max, patience: patience, all: map[net.Conn]*place{}}
}

// writeBuffer is what the kernel may hold of an answer: by itself it takes up to 4 MiB for a
// client that does not read, and says meanwhile that all is written.
const writeBuffer = 256 << 10

// boundedListener accepts only what finds a place.
type boundedListener struct {
	net.Listener
	*conns
}

func (b boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.admit(conn) {
			if c, is := conn.(*net.TCPConn); is {
				_ = c.SetWriteBuffer(writeBuffer) // without it the kernel holds more
			}
			return conn, nil
		}
		conn.Close()
	}
}

func (c *conns) admit(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.max {
		c.shed.Add(1)
		if !c.makeRoomLocked() {
			return false
		}
	}
	p := &place{conn: conn}
	c.all[conn] = p
	c.enterLocked(p, &c.waiting)
	return true
}

func (c *conns) makeRoomLocked() bool {
	if longest := c.waiting.Front(); longest != nil {
		c.dropLocked(longest.Value.(*place))
		return true
	}
	longest := c.answering.Front().Value.(*place)
	if c.patience == 0 || time.Since(longest.since) < c.patience {
		return false
	}
	c.dropLocked(longest)
	return true
}

// dropLocked closes a connection. Its goroutine finds that out by itself; its place is
// free now.
func (c *conns) dropLocked(p *place) {
	c.leaveLocked(p)
	p.conn.Close()
}

func (c *conns) leaveLocked(p *place) {
	p.in.Remove(p.at)
	delete(c.all, p.conn)
}

func (c *conns) enterLocked(p *place, l *list.List) {
	if p.in != nil {
		p.in.Remove(p.at)
	}
	p.in, p.at, p.since = l, l.PushBack(p), time.Now()
}

// moved is the hook of http.Server. It may name connections that were dropped.
func (c *conns) moved(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.all[conn]
	if p == nil {
		return
	}
	switch state {
	case http.StateActive: // a whole head has come
		c.enterLocked(p, &c.answering)
	case http.StateIdle:
		c.enterLocked(p, &c.waiting)
	case http.StateClosed:
		c.leaveLocked(p)
	}
}

// closeWaiting closes those that wait for a request.
func (c *conns) closeWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.waiting.Front(); at != nil; at = c.waiting.Front() {
		c.dropLocked(at.Value.(*place))
	}
}
