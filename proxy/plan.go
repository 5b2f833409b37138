package proxy

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/metrics"
	"sluice/proxy/internal/sys"
	"sluice/proxy/pool"
)

// Plan is what acceptors do, built and checked whole by the control plane and
// never changed or copied afterwards. An acceptor swaps Plans between two turns of its
// loop. It is plain data: in process mode it travels to the workers.
//
// Every session's listener and that listener's pool are in the Plan: what is taken
// out of the configuration stays in the Plan, in a later Phase, until its last session
// has ended.
type Plan struct {
	Generation  uint64 // grows by one with every Plan published
	MaxSessions int    // over all listeners and acceptors; 0 = no limit
	Seats       []Seat // the acceptors that there are
	Listeners   []Listener
	Pools       []pool.Pool
	Own         []Own // where the service listens

	once     sync.Once
	prepared map[metrics.ID]*pool.Prepared
	targets  map[metrics.ID]place
}

// Own is an address that the service listens on; 0.0.0.0 and :: = all addresses of a family.
type Own struct {
	Addr  netip.AddrPort
	Netns uint64 `json:"Netns,omitempty"` // the network namespace that it is of, as pools have it
}

// place is where a Plan has a target: its pool's index, and its own there.
type place struct{ pool, target int32 }

// Phase is how far a listener, or an acceptor with all its listeners, has come in
// its life. Each step is a new Plan, and it only goes up, except that an acceptor
// that leaves may be called back:
//
//	serving ──► leaving ──► closed ──► cut ──► (no more in the Plan)
//	accepts     accepts     queue      sessions   when it has no session left
//	            the rest    emptied    cut
type Phase uint8

// The phases.
const (
	PhaseServing Phase = iota // takes connections
	PhaseLeaving              // takes what still comes: its sockets may be quiesced, see Options.Restore
	PhaseClosed               // takes nothing more. As it takes effect the queue is emptied a last time; the sockets are not touched again
	PhaseCut                  // and what still runs is cut, as ReasonDrainDeadline
	numPhases
)

// accepts says whether connections are taken from the sockets.
func (p Phase) accepts() bool { return p <= PhaseLeaving }

// Seat is a place for an acceptor.
type Seat struct {
	Number int
	Phase  Phase // an acceptor's listener is in its own or in this one, whichever is later
}

// Listener is the data plane's part of a configured listener. Its sockets come
// separately, in a View. A zero duration turns its limit off.
type Listener struct {
	ID                metrics.ID
	Name              string // several that serve with one name are addresses of one listener: its limits hold over all
	Phase             Phase
	Pool              metrics.ID // one of the Plan's pools
	Relay             Relay
	MaxSessions       int           // over all acceptors; 0 = no limit
	WaitForBackend    time.Duration // accept to the last try of a session that no backend takes; 0 = it ends at once
	MaxWaiting        int           // sessions at a time that may wait so, over all acceptors
	FirstByteTimeout  time.Duration // accept to the first byte from the client
	IdleTimeout       time.Duration // neither half moved
	HalfClosedTimeout time.Duration // one half done and the other did not move; then in place of IdleTimeout
	MaxDuration       time.Duration // accept to close
	MaxDurationJitter float64       // 0..1: each session's MaxDuration is shortened by up to this share
	ToBackend         Tuning        // of the connections to backends
	Guard             Guard         // who may connect
	Paces             Paces
	Preamble          Preamble
	Unix              bool // its socket is a unix socket, which all acceptors share. Clients have no address, and all may send a PROXY header
}

// Tuning is what a socket is given when it is connected.
type Tuning = sys.Tuning

// Relay is how a session's bytes are moved.
type Relay uint8

// The relay modes.
const (
	RelayAuto   Relay = iota // copy, and splice while a half streams
	RelaySplice              // splice always; copy only when no pipe can be had
	RelayCopy                // copy always
)

// Renewed is a Plan like p, to be changed and published as the next one.
func (p *Plan) Renewed() *Plan {
	return &Plan{
		Generation: p.Generation + 1, MaxSessions: p.MaxSessions,
		Seats: slices.Clone(p.Seats), Listeners: slices.Clone(p.Listeners), Pools: slices.Clone(p.Pools), Own: p.Own,
	}
}

// Seat is the place with a number.
func (p *Plan) Seat(number int) (Seat, bool) {
	i := slices.IndexFunc(p.Seats, func(s Seat) bool { return s.Number == number })
	if i < 0 {
		return Seat{}, false
	}
	return p.Seats[i], true
}

// Prepared is a pool of the Plan as acceptors pick from it. The Plan is in force, or only
// the caller has it.
func (p *Plan) Prepared(id metrics.ID) *pool.Prepared { return p.prepare(nil)[id] }

// prepare returns what acceptors pick from. The first call takes milliseconds, so it
// is made outside of the loops, and holds for all of them. A pool that is as it was in
// the Plan before, which may be nil, keeps what was made for it.
func (p *Plan) prepare(before *Plan) map[metrics.ID]*pool.Prepared {
	p.once.Do(func() {
		p.prepared, p.targets = make(map[metrics.ID]*pool.Prepared, len(p.Pools)), map[metrics.ID]place{}
		for i := range p.Pools {
			q := &p.Pools[i]
			for j, t := range q.Targets {
				p.targets[t.ID] = place{int32(i), int32(j)}
			}
			if before != nil {
				if old := before.prepare(nil)[q.ID]; old != nil && old.Same(q) {
					p.prepared[q.ID] = old
					continue
				}
			}
			p.prepared[q.ID] = q.Prepare()
		}
	})
	return p.prepared
}
