// Package journal is what became of sessions: each acceptor writes it down, the control
// plane reads it.
//
//	acceptor 0 ──► ring 0 ┐                    Drain: each record once, or counted as lost
//	acceptor 1 ──► ring 1 ├ one memfd ◄─────── Reader (one goroutine of the control plane)
//	acceptor 2 ──► ring 2 ┘                    Recent: the last ones, again and again
//	     └─ once a turn, and only if the reader sleeps ─► bell ─► Wait
//
// A ring holds Size records of 128 bytes; a new one takes the place of the oldest,
// whether that was read or not. The writer waits for nothing, makes no system call but
// the bell's, and keeps to memory of its own: a worker maps its seat's ring and no other.
//
// The reader knows by arithmetic where a ring lies, and how long it is. It does not
// trust what is written there: a count that makes no sense and a record that is not what
// it should be are counted as damaged, and reading goes on behind them. A worker that is
// killed in the middle of a write leaves nothing: a record counts once the ring's head
// has moved behind it, and the worker's successor goes on from there.
package journal
