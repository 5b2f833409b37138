// Package metrics holds every figure of a service: where it is written, how it
// is read, and under which name it is shown.
//
//	acceptor 0 ──► its cells ┐
//	acceptor 1 ──► its cells ├ BOARD: one memfd, mapped by every process of the service
//	acceptor 2 ──► its cells ┘   │
//	                             ├──► Window (accepts of the last minute) ─┐
//	control plane ──► Topology   │                                         │
//	(names, states, queues) ─────┴──► TakeSnapshot ◄───────────────────────┘
//	                                       │
//	                                       ▼
//	                                   Snapshot ──► Collector: /metrics
//	                                            └─► JSON: /status.json, the page, top
//
// Writing is an atomic add on a cache line of the acceptor's own: no lock, no
// lookup, no allocation (2.3 of the design: a cell keeps its place for life, so
// counters never go backwards through a reload, a crash or a hand-over). Reading
// takes no lock that a writer could hold: a stopped worker delays nobody.
//
// The control plane's process makes the board, gives every series its cells and
// cleans up after a dead acceptor (GiveBack). Workers map the board by its
// descriptor (OpenBoard) and only find what is there.
package metrics
