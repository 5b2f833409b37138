// Package admin is the HTTP endpoint for people and machines, over TCP and over a unix
// socket.
//
//	TCP ──► at most MaxConns ──────────► Host ──┐
//	                                            ├─► GET /metrics      Prometheus                ┐
//	socket ─► at most MaxConns ─► uid ─┬────────┘   GET /status.json  the same figures as JSON  ├ one metrics.Snapshot at a time
//	                                   │            GET /readyz       200 while it takes connections, else 503
//	                                   │            GET /livez        200 while it answers at all
//	                                   │            GET /events       what the page shows, as it changes: watch
//	                                   │            GET /config       the configuration in force
//	                                   │            GET /             the page, or for a terminal this list
//	                                   └──────────► POST /reload      a verb: Verdict, and a line in the log
//	                                                POST /backend     the same
//	                                                POST /log/level   the same
//	                                                POST /kill        the same
//	                                                POST /rebalance   the same
//	                                                GET /sessions     those that are open
//	                                                GET /explain      where a client would go
//	                                                GET /trace        what happened to a session
//
// Over TCP anyone may read; what changes things is on the socket, where the kernel says who asks, and over TCP only for
// callers with a token, see write.go. It is served by the control plane, so a hung acceptor or a stopped worker does
// not keep it from answering. No number of clients, idle, slow, silent or half-sent, takes more than MaxConns
// descriptors on either side and the figures of a few scrapes.
package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sluice/metrics"
)

// Options is what New is given.
type Options struct {
	// Snapshot gathers the figures. It is called by one goroutine at a time and must
	// not wait.
	Snapshot func() metrics.Snapshot
	Log      *slog.Logger

	// MaxConns is how many connections there may be at a time, over TCP and as many
	// again over the socket; 0 = 64: some scrapers, probes and people, and few of the
	// descriptors that sessions need.
	MaxConns int

	// Reload puts the configuration in force, or with dryRun says what that would
	// change. ctx ends when the caller has gone. nil = there is no such verb.
	Reload func(ctx context.Context, dryRun bool) Verdict

	// Drain begins to end the service, or with now ends it at once. nil = the same.
	Drain func(now bool) Verdict

	// Backend puts in force what an operator says of a backend. nil = there is no such verb.
	Backend func(BackendOrder) Verdict

	// Watched is called when the first page is opened, and when the last one is closed; may be nil.
	Watched func(bool)

	// History and Ended are what the page shows beside the Snapshot: ticks of a listener ("" =
	// all), and sessions that have ended, after the number given. Config is the
	// configuration in force. nil = it shows none.
	History func(listener string, after uint64) metrics.Charts
	Ended   func(after uint64) Ended
	Config  func() string

	// LogLevel sets what the log shows: debug, info, warn or error. nil = the same.
	LogLevel func(level slog.Level) Verdict

	// Sessions finds sessions; an error says that the query names what there is not. Kill
	// ends them. Both take seconds at most. nil = the same.
	Sessions func(SessionQuery, SessionOrder) (SessionList, error)
	Kill     func(KillOrder) Verdict

	// Rebalance begins to spread a pool's sessions, or says what that would do. nil = the same.
	Rebalance func(RebalanceOrder) Verdict

	// Explain says where a client would go, and Trace what happened to sessions. An error says
	// that the query names what there is not. nil = the same.
	Explain func(context.Context, ExplainQuery) (Explanation, error)
	Trace   func(TraceQuery) (Trace, error)

	// TokenPlace is where the token is that verbs over TCP need, see ReadToken; "" = there are
	// no verbs over TCP, and nil the same.
	TokenPlace func() string
}

// Bounds of one connection.
const (
	// headWithin is for reading a request. Its head fits into one packet: what takes
	// longer than a few retransmissions is no scraper.
	headWithin = 5 * time.Second

	// answerWithin is for an answer, from the request on. Prometheus waits 10 s unless
	// told otherwise; this is for one that was.
	answerWithin = 30 * time.Second

	// idleWithin is for the next request. It is beyond the usual intervals of scrapers
	// that keep their connection (5 to 15 s).
	idleWithin = 30 * time.Second

	maxHead = 16 << 10 // the cookies of other services on localhost are the largest part

	defaultMaxConns = 64
)

// Server answers over TCP and over the socket. New makes it; Serve and ServeSocket
// run it; Close ends it.
type Server struct {
	o           Options
	tcp, socket *http.Server
	onTCP       *conns
	onSocket    *conns
	figures     *figures
	refused     refusals
	watch       *watch
}

// New makes a server that listens nowhere yet.
func New(o Options) *Server {
	if o.MaxConns == 0 {
		o.MaxConns = defaultMaxConns
	}
	s := &Server{o: o, figures: newFigures(o.Snapshot, o.Log)}
	s.watch = newWatch(o, s.figures)
	s.onTCP = newConns(o.MaxConns, freshFor)
	s.tcp = s.newHTTP(notRebound(sameOrigin(s.withVerbs(s.reads()))), s.onTCP)
	s.onSocket = newConns(o.MaxConns, 0) // verbs take their time
	s.socket = s.newHTTP(onlyOwn(s.verbs(s.reads())), s.onSocket)
	s.socket.ConnContext = withCaller
	return s
}

func (s *Server) newHTTP(h http.Handler, c *conns) *http.Server {
	return &http.Server{
		Handler: withoutBody(h), ConnState: c.moved, ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		// No ReadTimeout: it would go on during the answer, and end its context.
		ReadHeaderTimeout: headWithin, WriteTimeout: answerWithin, IdleTimeout: idleWithin, MaxHeaderBytes: maxHead,
	}
}

// Serve answers on a TCP listener until Close: reads, and verbs for callers with the token. It
// closes ln.
func (s *Server) Serve(ln net.Listener) error {
	return s.tcp.Serve(boundedListener{ln, s.onTCP})
}

// ServeSocket answers on what ListenSocket returned until Close: reads and verbs. It
// closes ln.
func (s *Server) ServeSocket(ln net.Listener) error {
	return s.socket.Serve(boundedListener{ln, s.onSocket})
}

// Shed is how many connections were closed because there were MaxConns.
func (s *Server) Shed() uint64 { return s.onTCP.shed.Load() + s.onSocket.shed.Load() }

// Close stops listening and lets answers under way end, until ctx is done; then it
// cuts them. After it Snapshot is not called any more, and no call is under way.
func (s *Server) Close(ctx context.Context) {
	s.watch.close()
	var both sync.WaitGroup
	for h, c := range map[*http.Server]*conns{s.tcp: s.onTCP, s.socket: s.onSocket} {
		both.Go(func() {
			c.closeWaiting() // Shutdown would give those that said nothing yet 5 s
			if h.Shutdown(ctx) != nil {
				h.Close()
			}
		})
	}
	both.Wait()
	s.figures.close()
}

// withoutBody refuses a request that has a body: none here needs one.
func withoutBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			h.ServeHTTP(w, r)
			return
		}
		// The server reads on for a while before it hangs up, so that the answer is seen.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headWithin))
		w.Header().Set("Connection", "close")
		say(w, http.StatusRequestEntityTooLarge, "no request here has a body")
	})
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}
