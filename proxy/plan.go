package proxy

import (
	"sync"
	"time"

	"sluice/proxy/pool"
)

// Plan is what acceptors do, built and checked whole by the control plane and
// never changed or copied afterwards. An acceptor swaps Plans between two turns of its
// loop. It is plain data: in process mode it travels to the workers.
type Plan struct {
	Generation  uint64 // grows by one with every Plan published
	MaxSessions int    // over all listeners and acceptors; 0 = no limit
	Listeners   []Listener
	Pools       []pool.Pool

	once     sync.Once
	prepared []pool.Pool
}

// prepare returns Pools as acceptors pick from them. The first call takes
// milliseconds, so it is made outside of the loops, and holds for all of them.
func (p *Plan) prepare() []pool.Pool {
	p.once.Do(func() {
		for _, q := range p.Pools {
			p.prepared = append(p.prepared, q.Prepare())
		}
	})
	return p.prepared
}

// Listener is the data plane's part of a configured listener. Its sockets come
// separately: they outlive every Plan. A zero duration turns its limit off.
type Listener struct {
	Name              string
	Pool              string // name of one of the Plan's pools
	Relay             Relay
	MaxSessions       int           // over all acceptors; 0 = no limit
	WaitForBackend    time.Duration // accept to the last try of a session that no backend takes; 0 = it ends at once
	MaxWaiting        int           // sessions at a time that may wait so, over all acceptors
	FirstByteTimeout  time.Duration // accept to the first byte from the client
	IdleTimeout       time.Duration // neither half moved
	HalfClosedTimeout time.Duration // one half done and the other did not move; then in place of IdleTimeout
	MaxDuration       time.Duration // accept to close
	MaxDurationJitter float64       // 0..1: each session's MaxDuration is shortened by up to this share
}

// Relay is how a session's bytes are moved.
type Relay uint8

// The relay modes.
const (
	RelayAuto   Relay = iota // copy, and splice while a half streams
	RelaySplice              // splice always; copy only when no pipe can be had
	RelayCopy                // copy always
)
