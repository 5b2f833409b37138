// Package proxy is the data plane: it takes client connections from listening sockets,
// gives each a backend, and moves bytes until both have said all they had to say.
//
//	what comes in                      an Acceptor                                      what goes out
//
//	Plan ──────── New, Apply ──► ┌─ one goroutine ───────────────────┐
//	sockets ────────── Group ──► │ epoll ─► turn:                    │ ──► bytes, FIN and RST, as they came
//	                             │   1 events    note what is ready  │ ──► cells of the board: every count
//	connections ──── accept4 ──► │   2 wheel     deadlines           │ ──► Notices: changes for the log
//	(passed on) ─────── Mail ──► │   3 run list  step sessions       │ ──► Rows: how it stands, for steering
//	                             │   4 accept    a few new ones      │
//	Stop, Cut, Close ── post ──► │   5 posted    calls from outside  │
//	                             └───────────────────────────────────┘
//
//	session = client connection + backend connection + two halves
//
//	           half to_backend:  read ─► buffer ─► write       (copy)
//	  client ════════════════════════════════════════════► backend
//	         ◄════════════════════════════════════════════
//	           half to_client:   splice ─► pipe ─► splice      (while it streams)
//
// Who owns what: the caller owns the Board, the listening sockets and the mail sockets, and closes
// them after Close. The Acceptor owns its epoll, its pipes and every connection it has
// accepted or dialed, until it passes one on. An idle session holds two descriptors
// and its slot in the slab: buffer, spills and pipes are lent to a half only while
// it has bytes in them.
//
// All state belongs to the loop's goroutine. The exported methods post a function to it
// and wait, so they may be called from anywhere but the loop. The loop never
// logs, locks for long, allocates per session or sleeps other than in epoll_wait(2).
//
// The connections are watched edge-triggered, once and for all events. Each file below
// that makes a system call opens with what EAGAIN, 0 and a short count mean there.
//
// Reading order: plan.go (what it is told), session.go (the states, drawn),
// loop_linux.go (the turn), then a connection's way: accept_linux.go, dial_linux.go,
// wait.go, relay_linux.go, close_linux.go. group.go is how acceptors help each other.
package proxy
