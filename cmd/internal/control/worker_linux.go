package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/metrics"
	"sluice/proxy"
)

// A worker's descriptors, beside the standard three: nothing else is open.
const (
	fdSupervisor  = 3 // the protocol; its end is the supervisor's end
	fdBoard       = 4
	fdFirstSocket = 5 // the acceptor's socket of each listener of the Plan, in order
)

// workerStart is what a worker needs to begin. It reads no file and opens no port.
type workerStart struct {
	Acceptor     int           `json:"acceptor"`
	Acceptors    int           `json:"acceptors"`
	MaxPipes     int           `json:"max_pipes"`
	DrainTimeout time.Duration `json:"drain_timeout"` // should the supervisor die
	Plan         *proxy.Plan   `json:"plan"`
}

// Work is a worker's life: one acceptor, told what to do by the supervisor. It
// returns when it was told to close, or when the supervisor has gone and the
// sessions have ended.
func Work() error {
	// The service's signals are the supervisor's affair, also when the whole process
	// group gets them.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	file := os.NewFile(fdSupervisor, "supervisor")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return fmt.Errorf("worker: not started by a supervisor: %w", err)
	}
	defer conn.Close()
	w := &workerEnd{conn: conn}
	m, err := readMessage(conn)
	if err != nil {
		return err
	}
	if m.Kind != kindStart {
		return fmt.Errorf("worker protocol: %s before start", m.Kind)
	}
	board, err := metrics.OpenBoard(fdBoard)
	if err != nil {
		return w.answer(m, err)
	}
	o := proxy.Options{
		ID: m.Start.Acceptor, Acceptors: m.Start.Acceptors, Board: board, Plan: m.Start.Plan,
		MaxPipes: m.Start.MaxPipes, Notices: make(chan proxy.Notice, 64),
	}
	for i := range m.Start.Plan.Listeners {
		unix.CloseOnExec(fdFirstSocket + i)
		o.Sockets = append(o.Sockets, fdFirstSocket+i)
	}
	t, err := newThreads([]proxy.Options{o})
	if err != nil {
		return w.answer(m, err)
	}
	if err := t.start(); err != nil {
		return w.answer(m, err)
	}
	go w.forward(o.Notices)
	if err := w.answer(m, nil); err != nil {
		return err
	}
	if err := w.obey(t); !errors.Is(err, io.EOF) {
		t.close()
		return err
	}
	leave(t, board, o, m.Start.DrainTimeout)
	return nil
}

// workerEnd is the worker's end of the protocol.
type workerEnd struct {
	mu   sync.Mutex // guards writes to conn
	conn net.Conn
}

func (w *workerEnd) send(m message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return writeMessage(w.conn, m)
}

// answer tells the supervisor what became of a request, and returns err.
func (w *workerEnd) answer(m message, err error) error {
	done := message{Kind: kindDone, ID: m.ID}
	if err != nil {
		done.Error = err.Error()
	}
	return errors.Join(err, w.send(done))
}

func (w *workerEnd) forward(notices <-chan proxy.Notice) {
	for n := range notices {
		if w.send(message{Kind: kindNotice, Notice: &n}) != nil {
			return
		}
	}
}

// obey does what the supervisor says until it says close (nil) or has gone (io.EOF).
func (w *workerEnd) obey(t *threads) error {
	for {
		m, err := readMessage(w.conn)
		if err != nil {
			return err
		}
		done := message{Kind: kindDone, ID: m.ID}
		switch m.Kind {
		case kindApply:
			if err := t.apply(m.Plan); err != nil {
				done.Error = err.Error()
			}
		case kindStopAccepting:
			t.stopAccepting()
		case kindCut:
			t.cut(m.Reason)
		case kindFind:
			_, done.Found = t.find(m.Source)
		case kindClose:
			t.close()
			return w.send(done)
		default:
			return fmt.Errorf("worker protocol: %s is not for a worker", m.Kind)
		}
		if err := w.send(done); err != nil {
			return err
		}
	}
}

// leave ends a worker whose supervisor has died: it may not hold the port, and must
// not drop what runs.
func leave(t *threads, board *metrics.Board, o proxy.Options, timeout time.Duration) {
	d := drainage{host: t, timeout: timeout, log: slog.New(slog.DiscardHandler)}
	for _, fd := range o.Sockets {
		if g, err := listener.Adopt([]int{fd}); err == nil {
			d.groups = append(d.groups, g)
		}
	}
	d.sessions = func() (n int64) {
		for series, c := range board.Acceptors() {
			if series.Acceptor == o.ID {
				n += c.Sessions.Load()
			}
		}
		return n
	}
	d.accepted = func() (n uint64) {
		for series, c := range board.Listeners() {
			if series.Acceptor == o.ID {
				n += c.Accepted.Load()
			}
		}
		return n
	}
	d.run()
}
