// Package metrics holds every figure of a service: where it is written, how it
// is read, and under which name it is shown.
//
//	acceptor 0 ──► its stripe ┐
//	acceptor 1 ──► its stripe ├ BOARD: one memfd, mapped by every process of the service
//	acceptor 2 ──► its stripe ┘   │
//	                              ├──► Window (accepts of the last minute) ─┐
//	control plane ──► Topology    │                                         │
//	(names, IDs, states, queues) ─┴──► TakeSnapshot ◄───────────────────────┘
//	                                        │
//	                                        ▼
//	                                    Snapshot ──► Scrape: /metrics
//	                                             └─► JSON: /status.json
//
// Writing is an atomic add on a cache line of the acceptor's own: no lock, no
// lookup, no allocation. Reading takes no lock that a writer could hold: a stopped
// worker delays no reader.
//
// Where a cell lies is arithmetic (layout.go, 2026-11): nothing on the board says
// where anything is, so no worker can lead the control plane astray, and what was
// never touched costs nothing. Before, the board was a log of named records: it
// only grew, and each snapshot read all of it.
//
// The life of figures (2.3 and 2.14 of the design):
//
//	an ID     OpenListener, OpenPool, OpenTarget ─► counted by every seat ─► no longer in the Topology: not shown
//	                        ▲                                                             │
//	                        └────────────── its index again, another generation ◄─────────┘
//	a seat    its acceptor writes ─► its process died: GiveBack ─► the next one writes on
//	                              └► it leaves for good: Retire ─► its counters stay in the totals
//
// The control plane's process makes the board and calls all of these. Workers map
// it by its descriptor (OpenBoard) and write the cells of their seat.
package metrics
