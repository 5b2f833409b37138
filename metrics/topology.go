package metrics

import (
	"slices"
	"time"
)

// Topology is what the board does not know: the facts that the control plane
// gathers for each Snapshot. Series of the board that the Topology does not name
// (a listener that a reload removed) are not shown.
type Topology struct {
	Service
	Listeners []Listener
	Pools     []Pool
	Acceptors []Acceptor
	Workers   []Worker
	Netns     *Netns        // nil = could not be read
	Health    map[ID]Health // of targets; one that is not there is up and not checked
}

// Service is the whole: one configuration, one board.
type Service struct {
	Version      string    `json:"version"`
	GoVersion    string    `json:"go_version"`
	Name         string    `json:"name"` // of this instance; may be ""
	Mode         string    `json:"mode"` // goroutine | process
	Started      time.Time `json:"started"`
	Ready        bool      `json:"ready"`
	Draining     bool      `json:"draining"`
	LinesLost    uint64    `json:"log_lines_lost"` // by a log whose reader does not keep up
	AccessLog    AccessLog `json:"access_log"`
	AdminShed    uint64    `json:"admin_shed"`    // connections to the admin endpoint closed because there were too many
	MaxSessions  int       `json:"max_sessions"`  // over all listeners; 0 = no limit
	Metrics      string    `json:"-"`             // Full or Compact; "" = Full
	NeedsBackend bool      `json:"needs_backend"` // readiness asks for a backend in each pool, too
	DNS          DNS       `json:"dns"`
	Files        []File    `json:"files"` // that are followed
	Config       Config    `json:"config"`
}

// DNS is how the names of backends resolve.
type DNS struct {
	Lookups map[string]uint64 `json:"lookups"` // by how they ended
	Names   []Name            `json:"names"`
}

// Name is one that backends are given by.
type Name struct {
	Name      string    `json:"name"`
	Addresses int       `json:"addresses"`
	Answered  time.Time `json:"answered"` // when a server last said what is in use; zero = never
	Stale     bool      `json:"stale"`    // the last lookup failed, and what an earlier one said is in use
}

// File is one that is followed for what it lists.
type File struct {
	Kind    string `json:"kind"` // backends | prefixes
	Path    string `json:"path"`
	OK      bool   `json:"ok"`              // what it says is in force
	Entries int    `json:"entries"`         // of what is in force
	Faults  uint64 `json:"faults"`          // times that it could not be taken
	Fault   string `json:"fault,omitempty"` // why it is not OK
}

// AccessLog is what became of its lines.
type AccessLog struct {
	Lines   uint64            `json:"lines"`   // made, those included that were lost behind that
	Dropped map[string]uint64 `json:"dropped"` // by how it was lost; a Snapshot has all
}

// Config is the configuration in force.
type Config struct {
	Path       string `json:"path"`       // "" = from the command line
	SHA256     string `json:"sha256"`     // its first 12 hex digits
	Generation uint64 `json:"generation"` // of the Plan
	Reload     Reload `json:"reload"`
}

// Reload is how the reloads of the configuration ended.
type Reload struct {
	Succeeded   bool              `json:"succeeded"`    // the last one; true before the first
	LastSuccess time.Time         `json:"last_success"` // the start counts as one
	Results     map[string]uint64 `json:"results"`      // by result (ReloadSuccess...); a Snapshot has all
	Last        string            `json:"last"`         // the text of the last one's verdict; "" before the first
	LastTime    time.Time         `json:"last_time"`    // of that; the start before the first
}

// Listener is a configured listener.
type Listener struct {
	ID          ID            `json:"id"`
	Earlier     []ID          `json:"-"` // of the same name, on another address, replaced or taken out: sessions of them may still run, and they count here
	Name        string        `json:"name"`
	Bind        string        `json:"bind"`    // as configured
	Address     string        `json:"address"` // as bound, with the port the kernel chose; the first of Addresses
	Addresses   []string      `json:"addresses"`
	Pool        string        `json:"pool"`
	Proxy       string        `json:"proxy_protocol,omitempty"` // optional or required
	Routes      []Route       `json:"routes,omitempty"`         // which sessions go to other pools
	MaxSessions int           `json:"max_sessions"`             // 0 = no limit
	Leaving     bool          `json:"leaving"`                  // no longer configured; its sessions may finish
	Steering    Steering      `json:"steering"`
	Queues      map[int]Queue `json:"-"` // by acceptor; one that could not be read is left out
}

// Route leads some of a listener's sessions to a pool of their own.
type Route struct {
	ID       ID     `json:"id"` // 0 = no session takes it any more
	Name     string `json:"name"`
	Pool     string `json:"pool"`
	On       string `json:"on"`             // what it goes by, in words
	Sessions uint64 `json:"sessions"`       // that took it; this and what follows are a Snapshot's
	Active   int64  `json:"active"`         // of these, open now
	Received uint64 `json:"received_bytes"` // from their clients
	Sent     uint64 `json:"sent_bytes"`     // to them
}

// Leads says whether a listener has sessions for a pool.
func (l *Listener) Leads(pool string) bool {
	return l.Pool == pool || slices.ContainsFunc(l.Routes, func(r Route) bool { return r.Pool == pool })
}

// Steering is how a listener's connections find their acceptor.
type Steering struct {
	Requested string `json:"requested"`
	Effective string `json:"effective"`
	Reason    string `json:"reason"` // a word that says why effective is not what was asked for (a label: no error texts); "" = it is
}

// What Effective may be besides a policy of package steering.
const (
	SteeredHandOff = "hand_off" // the kernel's hash, and hand-off above it
	SteeredShared  = "shared"   // one queue that all acceptors take from, and hand-off above it
)

// Queue is the accept queue of one socket.
type Queue struct {
	Length uint64 `json:"length"` // connections waiting
	Limit  uint64 `json:"limit"`
	Drops  uint64 `json:"drops"` // since the socket was made
}

// Pool is a configured pool.
type Pool struct {
	ID       ID
	Name     string
	Pick     string
	Panic    bool // too few are healthy: all are used
	Queue    int  // sessions at a time that may wait for a place; 0 = none
	Backends []Backend
}

// Backend is a configured backend.
type Backend struct {
	Name        string
	Weight      int
	Backup      bool
	MaxSessions int      // of each address; 0 = no limit
	Targets     []Target // the addresses of its name; empty = it does not resolve (yet)

	// Of one whose addresses share their series, see merged.go.
	Merged       bool
	Left         []ID                     // targets that its name no longer stands for, and that sessions may still hold
	Departed     *Departed                // what those did that no session holds any more; nil = nothing
	LeftFailures [NumCheckFailures]uint64 // of checks of what has left
}

// Target is one address of a backend.
type Target struct {
	ID      ID     `json:"id"`
	Address string `json:"address"` // no two of a backend have the same
}

// Acceptor says where an acceptor runs.
type Acceptor struct {
	Number  int  `json:"acceptor"` // its seat
	Worker  int  `json:"worker"`   // 0 in goroutine mode
	Leaving bool `json:"leaving"`  // it finishes its sessions to end
}

// Worker is a process that hosts acceptors; in goroutine mode the only one.
type Worker struct {
	Number        int         `json:"worker"`
	State         WorkerState `json:"state"`
	PID           int         `json:"pid"` // 0 = no process now, and so nothing below but restarts
	Restarts      uint64      `json:"restarts"`
	Started       time.Time   `json:"started"`
	CPUSeconds    float64     `json:"cpu_seconds"`
	ResidentBytes uint64      `json:"resident_bytes"`
	PSSBytes      uint64      `json:"pss_bytes,omitempty"` // 0 = not read
	OpenFDs       uint64      `json:"open_fds"`
}

// WorkerState is a worker's place in life.
type WorkerState string

// The worker states.
const (
	WorkerStarting WorkerState = "starting"
	WorkerRunning  WorkerState = "running"
	WorkerDraining WorkerState = "draining"
	WorkerDead     WorkerState = "dead" // until it is restarted
)

var workerStates = [...]WorkerState{WorkerStarting, WorkerRunning, WorkerDraining, WorkerDead}
