// Package proxy is the data plane: it takes client connections from listening sockets,
// gives each a backend, and moves bytes until both have said all they had to say.
//
//	what comes in                      an Acceptor                                      what goes out
//
//	Plan, View ─ Bind, Commit ─► ┌─ one goroutine ───────────────────┐
//	  (Groups, sockets, mail)    │ epoll ─► turn:                    │ ──► bytes, FIN and RST, as they came
//	                             │   1 events    note what is ready  │ ──► cells of the board: every count
//	connections ──── accept4 ──► │   2 run list  those asking little │ ──► Notices: changes for the log
//	(passed on) ─────── mail ──► │   3 wheel     deadlines           │ ──► Rows: how it stands, for steering
//	                             │   4 posted    a new Plan, calls   │
//	Rescue, Close ────── post ─► │   5 accept    a few new ones      │
//	                             │   6 streams   for a bounded time  │
//	                             └───────────────────────────────────┘
//
//	session = client connection + backend connection + two halves
//
//	           half to_backend:  read ─► buffer ─► write       (copy)
//	  client ════════════════════════════════════════════► backend
//	         ◄════════════════════════════════════════════
//	           half to_client:   splice ─► pipe ─► splice      (while it streams)
//
// Who owns what: the caller owns the Board, the listening sockets and the mail sockets; see
// View for when it may close them. The Acceptor owns its epoll, its pipes and every
// connection it has accepted or dialed, until it passes one on. An idle session holds two
// descriptors and its slot in the slab: buffer, spills and pipes are lent to a half only
// while it has bytes in them, an opening record until both ends are connected.
//
// All state belongs to the loop's goroutine. The exported methods leave a note for it and
// wait for nothing (Holds: for a second), so that a loop that hangs holds no caller up.
// The loop never logs, locks for long, allocates per session or sleeps other than in
// epoll_wait(2).
//
// The connections are watched edge-triggered, once and for all events. Each file below
// that makes a system call opens with what EAGAIN, 0 and a short count mean there.
//
// Reading order: plan.go (what it is told), acceptor.go (what it is), bind.go and commit.go
// (how it goes over to a Plan), session.go (the states, drawn), loop_linux.go (the turn), then
// a connection's way: accept_linux.go, opening.go, preamble_linux.go, dial_linux.go,
// introduce_linux.go, wait.go, relay_linux.go, close_linux.go. group.go is how acceptors help
// each other.
package proxy
