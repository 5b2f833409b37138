package accesslog

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// syslog sends each line as one message of RFC 5424: a packet over UDP and over a
// datagram socket such as /dev/log, with its length in front (RFC 6587) over a stream.
//
// While no server answers, lines wait in the ring, and the server is tried once a second. What
// the kernel had taken for a server that then ended is lost without a trace, as is what UDP
// loses.
type syslog struct {
	network, address string
	fell             atomic.Uint64 // lines that are longer than the socket takes
	frame            []byte

	mu     sync.Mutex // guards what follows; never held while anything waits
	conn   net.Conn   // nil = none
	stream bool       // of conn
	tried  time.Time
	closed bool
}

const (
	// againAfter is for how long a server that is not there is left alone.
	againAfter = time.Second
	dialWithin = 2 * time.Second
)

func newSyslog(network, address string) *syslog { return &syslog{network: network, address: address} }

func (s *syslog) Write(lines []byte) (n int, err error) {
	for n < len(lines) {
		line := lines[n:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end+1]
		}
		if err := s.send(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return n, err
		}
		n += len(line)
	}
	return n, nil
}

// send sends one message. syscall.EAGAIN asks the ring to try it again.
func (s *syslog) send(message []byte) error {
	conn, stream, err := s.connected()
	if err != nil {
		return err
	}
	if stream {
		s.frame = strconv.AppendInt(s.frame[:0], int64(len(message)), 10)
		s.frame = append(append(s.frame, ' '), message...)
		message = s.frame
	}
	_, err = conn.Write(message)
	if s.network == "udp" && errors.Is(err, syscall.ECONNREFUSED) { // that is about an earlier one
		_, err = conn.Write(message)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EMSGSIZE):
		s.fell.Add(1)
		return nil
	case s.network == "udp" && errors.Is(err, syscall.ECONNREFUSED):
		return nil // no server is there, and UDP promises nothing
	}
	return s.broken(conn) // a stream's server ignores a frame without its end
}

// connected returns the connection, which is made when it is needed first.
func (s *syslog) connected() (conn net.Conn, stream bool, err error) {
	s.mu.Lock()
	conn, stream = s.conn, s.stream
	late := time.Since(s.tried) >= againAfter
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, false, net.ErrClosed
	case conn != nil:
		return conn, stream, nil
	case !late:
		return nil, false, syscall.EAGAIN
	}
	stream = s.network == "tcp"
	if s.network == "unix" { // a datagram socket as a rule; see log/syslog
		if conn, err = net.DialTimeout("unixgram", s.address, dialWithin); err != nil {
			stream = true
			conn, err = net.DialTimeout("unix", s.address, dialWithin)
		}
	} else {
		conn, err = net.DialTimeout(s.network, s.address, dialWithin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = time.Now()
	if err != nil {
		return nil, false, syscall.EAGAIN
	}
	if s.closed {
		conn.Close()
		return nil, false, net.ErrClosed
	}
	s.conn, s.stream = conn, stream
	return conn, stream, nil
}

func (s *syslog) broken(conn net.Conn) error {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	if s.closed {
		return net.ErrClosed
	}
	return syscall.EAGAIN
}

func (s *syslog) reopen() error { return nil }

func (s *syslog) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *syslog) dropped() uint64 { return s.fell.Load() }

// header is what stands before each line in a message: of facility daemon.
type header struct{ before, after string } // the time

func newHeader() *header {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	return &header{">1 ", " " + host + " sluice " + strconv.Itoa(os.Getpid()) + " access - "}
}

const (
	daemonInfo = 3*8 + 6
	daemonWarn = 3*8 + 4
)

func (h *header) append(b []byte, e *entry) []byte {
	priority := daemonInfo
	if e.warns() {
		priority = daemonWarn
	}
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(priority), 10)
	b = append(b, h.before...)
	b = fields[0].append(b, e)
	return append(b, h.after...)
}
