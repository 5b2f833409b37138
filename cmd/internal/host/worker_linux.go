package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice/metrics"
	"sluice/metrics/journal"
	"sluice/proxy"
)

// Work is a worker's life: one acceptor, told what to do by the supervisor. It
// returns when it was told to close, or when the supervisor has gone and the
// sessions have ended.
func Work() error {
	// The service's signals are the supervisor's affair, also when the whole process
	// group gets them.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	runtime.GOMAXPROCS(2) // the loop, and this
	conn, err := supervisorConn()
	if err != nil {
		return fmt.Errorf("worker: not started by a supervisor: %w", err)
	}
	defer conn.Close()
	w := &workerEnd{in: rightsReader{conn: conn}, conn: conn}
	m, err := readMessage(&w.in, wireLimit)
	switch {
	case err != nil:
		return fmt.Errorf("worker: %w", err)
	case m.Kind == kindClose: // its seat has left meanwhile
		return w.answer(m, nil)
	case m.Kind != kindStart:
		return fmt.Errorf("worker: %q before start", m.Kind)
	}
	board, err := metrics.OpenBoard(fdBoard)
	if err != nil {
		return w.answer(m, err)
	}
	writer, err := journal.Open(fdJournal, fdBell, m.Start.Seat)
	if err != nil {
		return w.answer(m, err)
	}
	notices := make(chan proxy.Notice, 64)
	h, err := newHoldings(board, writer, m.Start, notices)
	if err != nil {
		return w.answer(m, err)
	}
	go w.forward(notices)
	_ = w.answer(m, nil)
	switch err := w.obey(h); {
	case errors.Is(err, errProtocol):
		h.close()
		return err
	case err != nil:
		h.drain()
	}
	return nil
}

// supervisorConn takes over fdSupervisor. A person who runs the command has some
// other file there, or none.
func supervisorConn() (*net.UnixConn, error) {
	if domain, err := unix.GetsockoptInt(fdSupervisor, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return nil, fmt.Errorf("descriptor %d is not its socket", fdSupervisor)
	}
	file := os.NewFile(fdSupervisor, "supervisor")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// workerEnd is the worker's end of the protocol.
type workerEnd struct {
	in rightsReader

	mu   sync.Mutex // guards writes to conn
	conn net.Conn
}

func (w *workerEnd) send(m message) error {
	frame, err := m.frame()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.conn.Write(frame)
	return err
}

// answer tells the supervisor what became of an order, and returns err. A failure to
// tell it is not looked at: the next read finds the supervisor gone.
func (w *workerEnd) answer(m message, err error) error {
	_ = w.send(message{Kind: kindDone, ID: m.ID, Error: textOf(err)})
	return err
}

// textOf is an error as it travels; "" = none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return text[:min(len(text), errorLimit)]
}

func (w *workerEnd) forward(notices <-chan proxy.Notice) {
	for n := range notices {
		_ = w.send(message{Kind: kindNotice, Notice: &n})
	}
}

// obey does what the supervisor says until it says close (nil), makes no sense
// (errProtocol) or has gone (any other error).
func (w *workerEnd) obey(h *holdings) error {
	for {
		m, err := readMessage(&w.in, wireLimit)
		if err != nil {
			return err
		}
		fds := w.in.take()
		if m.Kind != kindGive {
			closeAll(fds) // no order asked for them
		}
		done := message{Kind: kindDone, ID: m.ID}
		switch m.Kind {
		case kindPlan:
			h.told = m.Body
			continue
		case kindGive:
			err = h.take(m.Gifts, fds)
		case kindBind:
			err = h.bind(h.told)
		case kindCommit:
			err = h.commit()
		case kindUnbind:
			h.unbind()
		case kindRescue:
			h.rescue(m.Seat, m.On)
		case kindFind:
			done.Found = h.running && h.acceptor.Holds(m.Source)
		case kindSurvey:
			if h.running {
				go w.survey(h.acceptor, m)
			}
		case kindClose:
			h.close()
		default:
			return fmt.Errorf("%w: %q is not for a worker", errProtocol, m.Kind)
		}
		done.Error = textOf(err)
		_ = w.send(done)
		if m.Kind == kindClose {
			return nil
		}
	}
}
