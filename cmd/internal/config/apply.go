package config

// Apply is what a reload does with a change.
type Apply string

const (
	// Live: it takes effect at once, for sessions that run, too.
	Live Apply = "live"
	// Rebind: the listener gets new sockets, which join before the old ones leave. The
	// queues of the old are emptied, and their sessions go on.
	Rebind Apply = "rebind"
	// Restart: what runs keeps the old value. Change.Why says what forbids it.
	Restart Apply = "restart"
)

// effect is an option's column: what a reload does with it, and why if that is
// nothing.
type effect struct {
	apply Apply
	why   string // completes "needs a restart: ..."; "" unless apply is Restart
}

var (
	live   = effect{apply: Live}
	rebind = effect{apply: Rebind}
)

func restart(why string) effect { return effect{Restart, why} }
