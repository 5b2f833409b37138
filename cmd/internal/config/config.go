// Package config turns what people write into a checked Config: a TOML file,
// environment variables, flags. It is the only package that knows TOML.
//
//	sluice.toml ─► toml.Decode ─► tree ─┐
//	      └──────► scan ─► positions ───┤         options: the table of all keys
//	                                    ▼           │  path, kind, field
//	                      walk: which key is this? ◄┤
//	                                    │           │
//	SLUICE_*, --flags ─────────────────►▼           │
//	                      set: text or number ─► field of Config
//	                                    ▼
//	                      check: what spans keys (pools, addresses)
//	                                    ▼
//	                      Config, or Errors: every fault at once, sorted
//
// Each layer overwrites the one before: defaults, file, environment, flags.
// A faulty value is reported and left at its default, so that the later steps
// still run; no Config is handed out then.
package config

import (
	"net/netip"
	"os"
	"time"

	"sluice/cmd/internal/accesslog"
)

// Config is everything sluice can be told. It is plain data: a copy of it
// may be kept.
type Config struct {
	Instance  string // name of this sluice in metrics; "" = none
	Acceptors Acceptors
	Admin     Admin
	Reload    Reload
	Log       Log
	Limits    Limits
	DNS       DNS
	Listeners []Listener // in the order of the file, at least one
	Pools     []Pool     // in the order of the file
}

// Acceptors says how many loops there are and which of them gets a connection.
type Acceptors struct {
	Count      Auto   // loops, and sockets of each listener; see Number
	Mode       string // ModeGoroutine or ModeProcess
	Steering   string // one of the Steering words
	Scheduling string // one of the Scheduling words; see Batch
	PinCPUs    bool   // acceptor i runs on the i-th usable CPU only
	HangAfter  time.Duration
}

// Number is how many acceptors there are: Count, or with auto as many as CPUs may be
// used now.
func (a Acceptors) Number() int {
	if a.Count > 0 {
		return int(a.Count)
	}
	return AutoAcceptors(cpus(os.Getenv), os.ReadFile)
}

// Batch says whether busy acceptors have the kernel schedule them in batches.
func (a Acceptors) Batch() bool {
	return a.Scheduling == SchedulingBatch || a.Scheduling == SchedulingAuto && AutoBatch(os.ReadFile)
}

// Admin is where people and machines ask and order.
type Admin struct {
	Listen  string // of HTTP: IP:PORT or :PORT; "" = off
	Socket  string // unix socket for verbs: an absolute path, "" = off, or SocketAuto; see SocketPath
	Metrics string // MetricsFull or MetricsCompact
	Ready   string // ReadyListening or ReadyBackend: what /readyz asks for

	// The addresses of a backend that have series of their own; those of one that has more
	// share theirs. 0 = any number.
	AddressSeries int

	AllowWrite bool   // verbs over HTTP, for callers with the token
	Token      string // where it is: "file:/PATH" or "env:NAME"; "" = nowhere
}

// TokenPlace is where the token is; "" = verbs over HTTP are off.
func (a Admin) TokenPlace() string {
	if !a.AllowWrite {
		return ""
	}
	return a.Token
}

// Reload says when the file is read again, besides when it is asked for.
type Reload struct {
	Watch bool // whenever it changes
}

// Log says what is logged and how it looks.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // auto (text on a terminal, else json), text, json

	// The access log: see package accesslog.
	Access          string  // off, errors, all: which sessions have a line at their end
	AccessTo        string  // stdout, an absolute path, syslog:...
	AccessFormat    string  // json, text, or a template
	AccessSample    float64 // 0..1: the share of sessions that is written
	AccessStart     bool    // a line also when a backend has taken the session
	AccessSkipEmpty bool    // none for clients that come and go without a byte

	Trace bool // each step of a session is kept for a while, for sluice trace
}

// Limits hold for the whole service.
type Limits struct {
	MaxSessions  int           // over all listeners; 0 = no limit
	DrainDelay   time.Duration // between the word that it ends and the drain; connections are still taken
	DrainTimeout time.Duration // what running sessions get to end by themselves; 0 = none
}

// DNS says how the names of backends are resolved.
type DNS struct {
	Servers     []string      // IP or IP:PORT; none = those of /etc/resolv.conf
	Search      []string      // domains; none = those of /etc/resolv.conf, "." alone = really none
	Timeout     time.Duration // of one try; 0 = as in /etc/resolv.conf
	Attempts    int           // rounds over all servers; 0 = as in /etc/resolv.conf
	TTLMin      time.Duration // no TTL counts for less
	TTLMax      time.Duration // nor for more
	Hold        time.Duration // what a name stood for is kept so long while no server says anything
	Concurrency int           // lookups at a time
}

// Listener is an address to listen on. A zero duration turns its limit off.
type Listener struct {
	Name              string        // metric label
	Bind              string        // one address or several, with blanks between; see Binds
	Pool              string        // name of one of the Pools
	Relay             string        // one of the Relay words
	Backlog           int           // accept queue of each socket, cut to net.core.somaxconn; 0 = somaxconn
	MaxSessions       int           // over all acceptors; 0 = no limit
	WaitForBackend    time.Duration // what a session that no backend takes gets for further tries, from its accept
	MaxWaiting        int           // sessions at a time that may wait so, over all acceptors
	IdleTimeout       time.Duration
	HalfClosedTimeout time.Duration
	FirstByteTimeout  time.Duration
	MaxDuration       time.Duration
	MaxDurationJitter float64       // 0..1: each session's MaxDuration is shortened by up to this share
	Keepalive         time.Duration // silence after which a client is probed, in seconds rounded up
	KeepaliveInterval time.Duration // between two probes; 0 = a third of Keepalive
	KeepaliveCount    int           // probes without an answer, and the client is dead
	UserTimeout       time.Duration // that sent bytes may stay unacknowledged; 0 = as long as the kernel tries
	Buffer            int           // bytes of each socket buffer of a session, on both sides; 0 = the kernel tunes them
	FastOpen          int           // clients that may wait with data in their SYN; 0 = off
	DeferAccept       time.Duration // a client is accepted with its first byte, or after so long; 0 = at once
	Congestion        string        // control of sent data; "" = the kernel's default
	TOS               int           // of packets
	Mark              int           // of packets
	Interface         string        // by which alone packets come and go; "" = any
	Netns             string        // the network namespace that Bind is of: its path or name; "" = sluice's own. See NetnsPath
	Freebind          bool          // Bind may be an address that this machine does not have yet
	IPv6Only          bool
	MPTCP             bool
	SocketMode        string // permission bits of the file of a unix socket, in octal
	SocketUser        string // its owner, a name or a number; "" = the user that runs sluice
	SocketGroup       string // the same of its group; "" = as the directory has it
	Access            Access
	Limit             Limit
	Bandwidth         Bandwidth
	Share             bool // another sluice of the same user may join the port

	// What is wanted to know of a connection before a backend is: see preamble.go.
	ProxyProtocol     string        // one of the Proxy words
	ProxyProtocolFrom []string      // addresses and prefixes that may send a PROXY header
	StartTLS          string        // one of the StartTLS words: how clients ask for TLS before they speak it
	PreambleTimeout   time.Duration // from the accept to the end of what routing needs
	Routes            []Route       // in the order of the file
}

// Pool is a named set of backends.
type Pool struct {
	Name              string // metric label
	Backends          []Backend
	BackendsFile      string        // absolute path of a file with more of them, which is followed; "" = none
	Pick              string        // one of the Pick words
	MaxLoad           float64       // with PickSourceHash: how many times its share of the sessions a backend may have; 0 = any number
	MaxSessions       int           // at a time of each address of a backend that does not say; 0 = no limit
	Queue             int           // sessions at a time that may wait for a place at a backend; 0 = none
	QueueTimeout      time.Duration // and how long one of them may
	ConnectTimeout    time.Duration
	Retries           int           // further tries of one session after its first
	RetryBudget       float64       // 0..1: retries for each session of the pool, at most; 0 = no bound
	ResolveInterval   time.Duration // the longest time between two lookups of a name; 0 = as the TTLs say
	Keepalive         OrListener    // of connections to backends; see Listener
	KeepaliveInterval time.Duration // the same; counts where Keepalive is not AsListener
	KeepaliveCount    int           // the same
	UserTimeout       OrListener    // the same
	Source            []netip.Addr  // of connections to the backends, in turn; none leaves it to the kernel
	SourcePorts       PortRange     // of these; none leaves it to the kernel
	Transparent       bool          // connections to the backends come from the client's own address
	MPTCP             bool          // they speak Multipath TCP where both ends can
	Congestion        string        // of connections to backends; see Listener
	TOS               int           // the same
	Mark              int           // the same
	Interface         string        // the same
	Netns             string        // the network namespace that its backends are connected to from: its path or name; "" = sluice's own. See NetnsPath
	OnDown            string        // OnDownStay or OnDownCut: what becomes of sessions on a target that checks find down
	PanicBelow        float64       // 0..1: with a smaller share of healthy targets all are used; 0 = never
	SlowStart         time.Duration // in which the share of one that has recovered or joined grows; 0 = none
	SendProxy         string        // what a session is introduced with: SendProxyOff, SendProxyV1, SendProxyV2
	SendProxyTLVs     []string      // what a header of version 2 says beside the addresses
	Leave             string        // LeaveDrain or LeaveCut: what becomes of the sessions of a backend that leaves
	Rebalance         Rebalance
	Health            Health
	Ejection          Ejection
}

// OrListener is a duration, or AsListener: the one of the listener that a session came by.
type OrListener time.Duration

// AsListener is written "listener".
const AsListener OrListener = -1

// Or is d, or the listener's.
func (d OrListener) Or(listener time.Duration) time.Duration {
	if d == AsListener {
		return listener
	}
	return time.Duration(d)
}

func (d OrListener) String() string {
	if d == AsListener {
		return wordListener
	}
	return short(time.Duration(d))
}

const wordListener = "listener"

// Words that options take.
const (
	SocketAuto = "auto"

	MetricsFull    = "full"
	MetricsCompact = "compact"

	ReadyListening = "listening"
	ReadyBackend   = "backend"

	ModeGoroutine = "goroutine"
	ModeProcess   = "process"

	SteeringAuto       = "auto"
	SteeringLeast      = "least"
	SteeringRoundRobin = "round_robin"
	SteeringCPU        = "cpu"
	SteeringHash       = "hash"

	SchedulingAuto   = "auto"
	SchedulingBatch  = "batch"
	SchedulingNormal = "normal"

	RelayAuto   = "auto"
	RelaySplice = "splice"
	RelayCopy   = "copy"

	OnDownStay = "stay"
	OnDownCut  = "cut"

	PickRoundRobin    = "round_robin"
	PickLeastSessions = "least_sessions"
	PickSourceHash    = "source_hash"

	ProxyOff      = "off"
	ProxyOptional = "optional"
	ProxyRequired = "required"

	StartTLSOff      = "off"
	StartTLSPostgres = "postgres"

	SendProxyOff = "off"
	SendProxyV1  = "v1"
	SendProxyV2  = "v2"
	LeaveDrain   = "drain"
	LeaveCut     = "cut"
	PickRandom2  = "random2"
	PickFirst    = "first"
	PickFastest  = "fastest"
)

// Default is the Config of an empty file: complete but for listeners and pools.
func Default() Config {
	return Config{
		Acceptors: Acceptors{
			Count:      0, // auto: one loop per CPU, as a loop never waits for anything but its epoll
			Mode:       ModeGoroutine,
			Steering:   SteeringAuto,
			Scheduling: SchedulingAuto,
			// Far above one turn of a loop (bounded work, below 10 ms) and about what
			// a busy scheduler may keep a thread waiting; far below the 1 s after
			// which a client sends its SYN again, so nobody notices.
			HangAfter: 100 * time.Millisecond,
		},
		Admin: Admin{
			Listen: "127.0.0.1:9095", // loopback: it has no password
			Socket: SocketAuto,
			// Every series from the start, so that rate() misses no first event.
			Metrics: MetricsFull,
			// Some 40 series each: 10,000 for a backend. Nobody looks at each of more
			// addresses, and a Service of 5,000 pods must not fill a Prometheus.
			AddressSeries: 256,
			// Clients of a service without backends had better hear it from sluice than from no one.
			Ready: ReadyListening,
		},
		Log: Log{
			Level: "info", Format: "auto",
			// Off: a line a session is more than most want to keep. The rest is what it
			// would be: all sessions, in the form that collectors read without being told.
			Access: accesslog.Off, AccessTo: accesslog.Stdout, AccessFormat: accesslog.JSON, AccessSample: 1,
		},
		Limits: Limits{DrainTimeout: 30 * time.Second}, // what Kubernetes gives a pod to end
		DNS: DNS{
			// Platforms give a TTL of 0 to say "ask again": once a second is often enough.
			TTLMin: time.Second,
			// Docker gives 600 s to names whose addresses change within seconds.
			TTLMax: 30 * time.Second,
			// A name server that is away over night does not take the service along.
			Hold: 24 * time.Hour,
			// Each takes a descriptor. Answers take some milliseconds, so this is some
			// thousands a second.
			Concurrency: 16,
		},
	}
}

// DefaultListener is a listener of which only the name is known.
func DefaultListener(name string) Listener {
	return Listener{
		Name:  name,
		Relay: RelayAuto,
		// Off: a user with other backends, or clients that ask again, wants to know
		// at once. A sidecar turns it on.
		WaitForBackend: 0,
		// Each asks six times a second; more than this is a flood of connects, and a
		// crowd for a backend that has just come up.
		MaxWaiting: 100,
		// Pools of database connections rest for minutes; those that rest longer
		// check before use. Far below the five days of Linux' connection tracking.
		IdleTimeout: 10 * time.Minute,
		// Off: "send the query, shut, read the result" is sound TCP, and the result
		// may be late. IdleTimeout holds as for any other session.
		HalfClosedTimeout: 0,
		// A tenth spreads the ends of sessions that began together (after a restart)
		// over 10% of max_duration.
		MaxDurationJitter: 0.1,
		// Below the shortest idle times of common NATs and balancers (60 to 350 s).
		Keepalive: 30 * time.Second,
		// A third of 30 s, three times: a dead peer is found after a minute, and two lost
		// probes are forgiven.
		KeepaliveInterval: 0,
		KeepaliveCount:    3,
		// The user that runs sluice and the group, as docker.sock and others have it.
		SocketMode: "0660",
		// Off, so about 15 minutes (net.ipv4.tcp_retries2): the option also ends peers
		// that are alive and take nothing for so long, and holds in place of
		// KeepaliveCount.
		UserTimeout: 0,
		Access:      Access{Refuse: RefuseRST}, // it costs both sides least
		Limit:       defaultLimit(),
		Buffer:      0, // what the kernel measures fits a fast path as well as a slow one
		// A client's header is believed, so none is unless it is asked for.
		ProxyProtocol: ProxyOff,
		StartTLS:      StartTLSOff,
		// Three lost segments in a row (1, 2 and 4 s) are forgiven.
		PreambleTimeout: 10 * time.Second,
	}
}

// DefaultPool is a pool of which only the name is known.
func DefaultPool(name string) Pool {
	return Pool{
		Name: name,
		Pick: PickRoundRobin,
		// The SYN goes out at 0, 1 and 3 s: one may be lost, and its repetition has
		// 2 s to be answered.
		ConnectTimeout: 3 * time.Second,
		// Three tries in all: a client waits 9 s at worst before it is told.
		Retries: 2,
		// Off: a session that is not retried fails, and targets that fail are ranked last anyway.
		RetryBudget: 0,
		// As the TTLs say: the zone's owner set them.
		ResolveInterval: 0,
		// A listener that looks after dead clients is meant to do so for dead backends, too.
		Keepalive:      AsListener,
		KeepaliveCount: 3,
		UserTimeout:    AsListener,
		// They may well end in order: what is down for new ones may serve the old.
		OnDown: OnDownStay,
		// Off: the backends know best how many sessions they bear.
		MaxSessions: 0,
		// Off: without a limit no session waits for a place, and with one clients hear at once.
		Queue: 0,
		// What people wait for before they try again.
		QueueTimeout: 5 * time.Second,
		// Off: what checks say holds, and a pool that has none left closes sessions at once.
		PanicBelow: 0,
		// Off: most backends bear their share at once.
		SlowStart: 0,
		SendProxy: SendProxyOff,
		Health:    defaultHealth(),
		Ejection:  defaultEjection(),
		Leave:     LeaveDrain, // taking an address out of DNS is not meant to break what runs
		Rebalance: defaultRebalance(),
	}
}
