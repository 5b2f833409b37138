package metrics

import "time"

// Snapshot is everything that is shown, as plain data: /metrics and /status.json
// render it. It holds every listener, acceptor, pool, backend and target of its Topology, with zeros for what did not happen yet.
//
// Figures are read one after the other while acceptors go on counting, so sums
// over different ones may be off by what happened in between.
type Snapshot struct {
	Time time.Time `json:"time"`
	Service
	Listeners []ListenerStats `json:"listeners"`
	Pools     []PoolStats     `json:"pools"`
	Acceptors []AcceptorStats `json:"acceptors"`
	Workers   []Worker        `json:"workers"`
	Netns     *Netns          `json:"netns,omitempty"`
}

// ListenerStats is a listener with its figures over all acceptors, those that have
// left included: a total never goes backwards.
type ListenerStats struct {
	Listener
	HalfClosed int64            `json:"half_closed"`
	Waiting    int64            `json:"waiting"`        // for a backend
	Waited     Counts           `json:"waited"`         // by WaitEnd
	Rejected   Counts           `json:"rejected"`       // by Reject
	Closed     Counts           `json:"closed"`         // by Reason
	Received   Counts           `json:"received_bytes"` // from clients, by Path
	Sent       Counts           `json:"sent_bytes"`     // to clients, by Path
	HeldBack   []HeldBack       `json:"held_back"`      // by a bandwidth limit, by direction
	Duration   Histogram        `json:"session_duration"`
	Acceptors  []ListenerSocket `json:"acceptors"`
	Balance    ListenerBalance  `json:"balance"`
}

// HeldBack is what sessions waited for a bandwidth limit.
type HeldBack struct {
	Direction string  `json:"direction"` // upload = from clients, download = to them
	Times     uint64  `json:"times"`
	Seconds   float64 `json:"seconds"`
}

// ListenerSocket is one acceptor's part of a listener.
type ListenerSocket struct {
	Acceptor
	Accepted     uint64    `json:"accepted"`
	Active       int64     `json:"active"`
	AcceptErrors Counts    `json:"accept_errors"` // by AcceptError
	HandedOff    uint64    `json:"handed_off"`
	Taken        uint64    `json:"taken"`
	Rescued      uint64    `json:"rescued"`
	Wait         Histogram `json:"accept_wait"`
	Queue        *Queue    `json:"queue,omitempty"` // left out when it could not be read
}

// ListenerBalance is how evenly a listener's acceptors share its work. The shares
// are in the order of ListenerStats.Acceptors.
type ListenerBalance struct {
	WindowSeconds float64 `json:"window_seconds"` // length of the window of accepts
	Accepts       Balance `json:"accepts"`        // connections accepted within it
	Held          Balance `json:"held"`           // sessions held now
}

// PoolStats is a pool with its figures over all acceptors.
type PoolStats struct {
	ID        ID              `json:"id"`
	Name      string          `json:"name"`
	Pick      string          `json:"pick"`
	Panic     bool            `json:"panic"` // too few are healthy: all are used
	Retries   uint64          `json:"retries"`
	Unpaid    uint64          `json:"retries_refused"`  // that the budget did not pay for
	Capped    uint64          `json:"ejections_capped"` // that there was no room for
	NoBackend uint64          `json:"no_backend"`
	Queue     *PoolQueueStats `json:"queue,omitempty"` // left out where there is none
	Backends  []BackendStats  `json:"backends"`
}

// PoolQueueStats is the queue of a pool whose backends have max_sessions.
type PoolQueueStats struct {
	Length int64     `json:"length"` // sessions that wait now
	Limit  int       `json:"limit"`  // that may
	Ends   Counts    `json:"ends"`   // by QueueEnd
	Wait   Histogram `json:"wait"`   // of those that got a place
}

// BackendStats is a backend with its targets.
type BackendStats struct {
	Name        string        `json:"name"`
	Weight      int           `json:"weight"`
	Backup      bool          `json:"backup"`
	MaxSessions int           `json:"max_sessions"` // of each target; 0 = no limit
	Targets     []TargetStats `json:"targets"`
	Merged      *MergedStats  `json:"-"` // what /metrics shows in place of the targets; nil = them
}

// TargetStats is a target with its figures over all acceptors.
type TargetStats struct {
	Target
	Health
	Active        int64     `json:"active"`
	Attempts      uint64    `json:"connect_attempts"`
	ConnectErrors Counts    `json:"connect_errors"` // by ConnectError
	Sessions      uint64    `json:"sessions"`
	Received      uint64    `json:"received_bytes"` // from the target
	Sent          uint64    `json:"sent_bytes"`     // to the target
	Connect       Histogram `json:"connect_duration"`
	Failing       bool      `json:"failing"`                 // it did not take a connection, or was ejected, and is ranked last
	FailingClass  string    `json:"failing_class,omitempty"` // how the last one failed (ConnectError), or early_close
	Probes        Counts    `json:"probes"`                  // of it while it failed, by ProbeEnd
	Ejections     Counts    `json:"ejections"`               // times it began to be picked last, by EjectReason
}

// AcceptorStats is an acceptor with its figures over all listeners.
type AcceptorStats struct {
	Acceptor
	Hung             bool   `json:"hung"`       // it does not turn; a sibling serves what waits for it
	Hangs            uint64 `json:"hangs"`      // times that was so
	Parked           bool   `json:"parked"`     // it waits for as long as it takes
	Generation       int64  `json:"generation"` // of the Plan it runs
	Sessions         int64  `json:"sessions"`
	Accepting        bool   `json:"accepting"`
	Turns            uint64 `json:"turns"`
	PipesOpen        int64  `json:"pipes_open"`
	PipesInUse       int64  `json:"pipes_in_use"`
	PipeFallbacks    uint64 `json:"pipe_fallbacks"`
	SpliceDenied     uint64 `json:"splice_denied"`
	SourcesEvicted   uint64 `json:"sources_evicted"`
	SourcesUntracked uint64 `json:"sources_untracked"`
	SpillBytes       int64  `json:"spill_bytes"`
	Backoffs         uint64 `json:"backoffs"`
	Batched          bool   `json:"batched"`
	ThreadID         int64  `json:"thread_id"`     // 0 = not running, or not pinned and so on any
	PID              int64  `json:"pid"`           // 0 = not running
	CPU              *int64 `json:"cpu,omitempty"` // pinned to; left out = any
}
