package control

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"sluice/metrics"
	"sluice/proxy"
)

// host is where the acceptors live. The calls are made by Serve's goroutine, one at
// a time.
type host interface {
	start() error                                       // every acceptor runs after it; after an error none is left
	startAccepting() error                              // the sockets must be listening
	leave()                                             // connections accepted from now on come from quiesced sockets
	rescue(by, hung int, on bool)                       // acceptor by serves the sockets of a hung one; does not wait
	apply(plan *proxy.Plan) error                       // returns when the Plan is in force everywhere
	stopAccepting()                                     // empties the accept queues a last time
	cut(reason metrics.Reason)                          // ends all sessions
	find(source netip.AddrPort) (acceptor int, ok bool) // whose session has this source address; any goroutine may ask
	close()                                             // ends the acceptors; nothing of them is left
	workers() []metrics.Worker                          // the processes
	placement() []metrics.Acceptor                      // which acceptor lives in which worker
}

// threads is the host of mode "goroutine": every acceptor a thread of this process.
type threads struct {
	acceptors []*proxy.Acceptor
	running   sync.WaitGroup
	started   time.Time
}

// newThreads makes the acceptors of options, none of which accepts yet.
func newThreads(options []proxy.Options) (*threads, error) {
	// One P more than there are loops: a loop that polls keeps its P, and the control
	// plane wants one, too.
	if p := len(options) + 1; runtime.GOMAXPROCS(0) < p {
		runtime.GOMAXPROCS(p)
	}
	t := &threads{started: time.Now()}
	for _, o := range options {
		a, err := proxy.New(o)
		if err != nil {
			return nil, err
		}
		t.acceptors = append(t.acceptors, a)
	}
	return t, nil
}

func (t *threads) start() error {
	for _, a := range t.acceptors {
		t.running.Go(a.Run)
	}
	return nil
}

func (t *threads) startAccepting() error {
	for _, a := range t.acceptors {
		a.StartAccepting()
	}
	return nil
}

func (t *threads) leave() {
	for _, a := range t.acceptors {
		a.Leave()
	}
}

func (t *threads) rescue(by, hung int, on bool) { t.acceptors[by].Rescue(hung, on) }

func (t *threads) apply(plan *proxy.Plan) error {
	for i, a := range t.acceptors {
		if err := a.Apply(plan); err != nil {
			return fmt.Errorf("acceptor %d: %w", i, err)
		}
	}
	return nil
}

func (t *threads) stopAccepting() {
	for _, a := range t.acceptors {
		a.StopAccepting()
	}
}

func (t *threads) cut(reason metrics.Reason) {
	for _, a := range t.acceptors {
		a.Cut(reason)
	}
}

func (t *threads) find(source netip.AddrPort) (int, bool) {
	for i, a := range t.acceptors {
		if a.Holds(source) {
			return i, true
		}
	}
	return 0, false
}

func (t *threads) close() {
	for _, a := range t.acceptors {
		a.Close()
	}
	t.running.Wait()
}

func (t *threads) workers() []metrics.Worker {
	w := metrics.Worker{State: metrics.WorkerRunning, PID: os.Getpid(), Started: t.started}
	readProcess(&w)
	return []metrics.Worker{w}
}

func (t *threads) placement() []metrics.Acceptor {
	placed := make([]metrics.Acceptor, len(t.acceptors))
	for i := range placed {
		placed[i] = metrics.Acceptor{Number: i}
	}
	return placed
}

// logNotices writes what acceptors have to say, until the channel is closed.
func logNotices(log *slog.Logger, notices <-chan proxy.Notice) {
	for n := range notices {
		log := log.With("acceptor", n.Acceptor, "name", n.Name)
		switch n.Kind {
		case proxy.NoticeAcceptPaused:
			log.Error("accepting pauses: no descriptors or memory left; connections wait in the queue", "error", n.Errno,
				"remedy", "raise the limit of open files (LimitNOFILE, ulimit -n, --ulimit nofile) or lower max_sessions")
		case proxy.NoticeAcceptResumed:
			log.Info("accepting goes on, the queue is empty")
		case proxy.NoticeNoPorts:
			log.Error("no source port left towards this backend", "remedy", "widen net.ipv4.ip_local_port_range, or add backends or addresses of this one")
		case proxy.NoticeConnectFailed:
			log.Warn("backend does not take connections", "class", n.Class.String())
		case proxy.NoticeConnectRestored:
			log.Info("backend takes connections again")
		}
	}
}
