package host

import (
	"sluice/listener/steering"
	"sluice/metrics"
	"sluice/proxy"
)

// rowsOf is a listener's rows as acceptors use them, by seat. All acceptors of a
// process share them: what a steering.Seat remembers by itself is touched by its own
// acceptor alone, and what the others ask of it lies in shared memory.
func rowsOf(r *steering.Rows) (rows []proxy.Row) {
	for seat := range metrics.MaxAcceptors {
		rows = append(rows, r.Seat(seat))
	}
	return rows
}
