package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/listener"
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// workerStart is what a worker needs to begin. It reads no file and opens no port.
type workerStart struct {
	Acceptor     int           `json:"acceptor"`
	Acceptors    int           `json:"acceptors"`
	MaxPipes     int           `json:"max_pipes"`
	DrainTimeout time.Duration `json:"drain_timeout"` // should the supervisor die
	Beat         time.Duration `json:"beat"`
	Batch        bool          `json:"batch"`
	CPUs         []int         `json:"cpus,omitempty"`
	Picked       []bool        `json:"picked"` // by listener, as in proxy.Group
	HandOff      []bool        `json:"hand_off"`
	Plan         *proxy.Plan   `json:"plan"`
}

// complete says whether a worker can begin with s.
func (s *workerStart) complete() bool {
	return s.Plan != nil && s.Acceptor >= 0 && s.Acceptor < s.Acceptors && s.Acceptors <= steering.MaxAcceptors &&
		len(s.Picked) == len(s.Plan.Listeners) && len(s.HandOff) == len(s.Plan.Listeners)
}

// Work is a worker's life: one acceptor, told what to do by the supervisor. It
// returns when it was told to close, or when the supervisor has gone and the
// sessions have ended.
func Work() error {
	// The service's signals are the supervisor's affair, also when the whole process
	// group gets them.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	runtime.GOMAXPROCS(2) // the loop, and this
	conn, err := supervisorConn()
	if err != nil {
		return fmt.Errorf("worker: not started by a supervisor: %w", err)
	}
	defer conn.Close()
	w := &workerEnd{conn: conn}
	m, err := readMessage(conn)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if m.Kind != kindStart {
		return fmt.Errorf("worker: %q before start", m.Kind)
	}
	o, err := receive(m.Start)
	if err != nil {
		return w.answer(m, err)
	}
	t, err := newThreads([]proxy.Options{o})
	if err != nil {
		return w.answer(m, err)
	}
	h := &solo{threads: t, options: o, rescues: map[int]bool{}}
	if err := h.start(); err != nil {
		return w.answer(m, err)
	}
	go w.forward(o.Notices)
	_ = w.answer(m, nil)
	switch err := w.obey(h); {
	case errors.Is(err, errProtocol):
		h.close()
		return err
	case err != nil:
		h.drain(m.Start.DrainTimeout)
	}
	return nil
}

// supervisorConn takes over fdSupervisor. A person who runs the command has some
// other file there, or none.
func supervisorConn() (net.Conn, error) {
	if domain, err := unix.GetsockoptInt(fdSupervisor, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return nil, fmt.Errorf("descriptor %d is not its socket", fdSupervisor)
	}
	file := os.NewFile(fdSupervisor, "supervisor")
	defer file.Close()
	return net.FileConn(file)
}

// receive makes an acceptor's options of a start and the inherited descriptors.
func receive(start *workerStart) (proxy.Options, error) {
	o := proxy.Options{
		ID: start.Acceptor, Acceptors: start.Acceptors, Plan: start.Plan, Beat: start.Beat, Batch: start.Batch, CPUs: start.CPUs, Restore: listener.Restore,
		MaxPipes: start.MaxPipes, Notices: make(chan proxy.Notice, 64),
	}
	var err error
	if o.Board, err = metrics.OpenBoard(fdBoard); err != nil {
		return o, err
	}
	o.Groups, o.Mail, err = start.inherit()
	return o, err
}

// workerEnd is the worker's end of the protocol.
type workerEnd struct {
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

// answer tells the supervisor what became of a request, and returns err. A failure to
// tell it is not looked at: the next read finds the supervisor gone.
func (w *workerEnd) answer(m message, err error) error {
	done := message{Kind: kindDone, ID: m.ID}
	if err != nil {
		done.Error = err.Error()
	}
	_ = w.send(done)
	return err
}

func (w *workerEnd) forward(notices <-chan proxy.Notice) {
	for n := range notices {
		_ = w.send(message{Kind: kindNotice, Notice: &n})
	}
}

// obey does what the supervisor says until it says close (nil), makes no sense
// (errProtocol) or has gone (any other error).
func (w *workerEnd) obey(h *solo) error {
	for {
		m, err := readMessage(w.conn)
		if err != nil {
			return err
		}
		done := message{Kind: kindDone, ID: m.ID}
		switch m.Kind {
		case kindApply:
			if err := h.apply(m.Plan); err != nil {
				done.Error = err.Error()
			}
		case kindStartAccepting:
			_ = h.startAccepting() // a thread does not fail to
		case kindLeave:
			h.leave()
		case kindStopAccepting:
			h.stopAccepting()
		case kindRescue:
			h.rescue(0, m.Hung, m.On) // the worker's one acceptor
		case kindCut:
			h.cut(m.Reason)
		case kindFind:
			_, done.Found = h.find(m.Source)
		case kindClose:
			h.close()
		default:
			return fmt.Errorf("%w: %q is not for a worker", errProtocol, m.Kind)
		}
		_ = w.send(done)
		if m.Kind == kindClose {
			return nil
		}
	}
}
