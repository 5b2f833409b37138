package metrics

import "time"

// Snapshot is everything that is shown, as plain data: /metrics, /status.json,
// the page and top all render it. It holds every listener, acceptor, pool and
// backend of its Topology, with zeros for what did not happen yet.
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

// ListenerStats is a listener with its figures over all acceptors, those that are
// no longer in the Topology included: a total never goes backwards.
type ListenerStats struct {
	Listener
	HalfClosed int64            `json:"half_closed"`
	Waiting    int64            `json:"waiting"`        // for a backend
	Waited     Counts           `json:"waited"`         // by WaitEnd
	Rejected   Counts           `json:"rejected"`       // by Reject
	Closed     Counts           `json:"closed"`         // by Reason
	Received   Counts           `json:"received_bytes"` // from clients, by Path
	Sent       Counts           `json:"sent_bytes"`     // to clients, by Path
	Duration   Histogram        `json:"session_duration"`
	Acceptors  []ListenerSocket `json:"acceptors"`
	Balance    ListenerBalance  `json:"balance"`
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
	Name      string         `json:"name"`
	Pick      string         `json:"pick"`
	Retries   uint64         `json:"retries"`
	NoBackend uint64         `json:"no_backend"`
	Backends  []BackendStats `json:"backends"`
}

// BackendStats is a backend with its figures over all acceptors.
type BackendStats struct {
	Backend
	Active        int64     `json:"active"`
	Attempts      uint64    `json:"connect_attempts"`
	ConnectErrors Counts    `json:"connect_errors"` // by ConnectError
	Sessions      uint64    `json:"sessions"`
	Received      uint64    `json:"received_bytes"` // from the backend
	Sent          uint64    `json:"sent_bytes"`     // to the backend
	Connect       Histogram `json:"connect_duration"`
}

// AcceptorStats is an acceptor with its figures over all listeners.
type AcceptorStats struct {
	Acceptor
	Health
	Sessions      int64  `json:"sessions"`
	Accepting     bool   `json:"accepting"`
	Turns         uint64 `json:"turns"`
	PipesOpen     int64  `json:"pipes_open"`
	PipesInUse    int64  `json:"pipes_in_use"`
	PipeFallbacks uint64 `json:"pipe_fallbacks"`
	SpillBytes    int64  `json:"spill_bytes"`
	Backoffs      uint64 `json:"backoffs"`
	Batched       bool   `json:"batched"`
	ThreadID      int64  `json:"thread_id"`     // 0 = not running, or not pinned and so on any
	PID           int64  `json:"pid"`           // 0 = not running
	CPU           *int64 `json:"cpu,omitempty"` // pinned to; left out = any
}

// TakeSnapshot reads the board's figures on what is in t, at now.
func TakeSnapshot(b *Board, w *Window, t Topology, now time.Time) Snapshot {
	s := Snapshot{
		Time: now, Service: t.Service, Netns: t.Netns,
		Listeners: make([]ListenerStats, len(t.Listeners)),
		Pools:     make([]PoolStats, len(t.Pools)),
		Acceptors: make([]AcceptorStats, len(t.Acceptors)),
		Workers:   append([]Worker{}, t.Workers...), // never null in JSON
	}
	s.readListeners(b, w, t)
	s.readPools(b, t)
	s.readAcceptors(b, t)
	return s
}

func (s *Snapshot) readListeners(b *Board, w *Window, t Topology) {
	byName := map[string]*ListenerStats{}
	for i, l := range t.Listeners {
		s.Listeners[i] = newListenerStats(l, t.Acceptors)
		byName[l.Name] = &s.Listeners[i]
	}
	for series, c := range b.Listeners() {
		if l := byName[series.Name]; l != nil {
			l.add(series.Acceptor, c)
		}
	}
	for i := range s.Listeners {
		s.Listeners[i].balance(w, s.Time)
	}
}

func newListenerStats(l Listener, acceptors []Acceptor) ListenerStats {
	st := ListenerStats{
		Listener:  l,
		Waited:    newCounts(waitEndNames[:]),
		Rejected:  newCounts(rejectNames[:]),
		Closed:    newCounts(reasonNames[:]),
		Received:  newCounts(pathNames[:]),
		Sent:      newCounts(pathNames[:]),
		Duration:  newHistogram(DurationBuckets[:]),
		Acceptors: make([]ListenerSocket, len(acceptors)),
	}
	for i, a := range acceptors {
		st.Acceptors[i] = ListenerSocket{
			Acceptor:     a,
			AcceptErrors: newCounts(acceptErrorNames[:]),
			Wait:         newHistogram(LatencyBuckets[:]),
		}
		if q, ok := l.Queues[a.Number]; ok {
			st.Acceptors[i].Queue = &q
		}
	}
	st.Queues = nil // now with the acceptors
	return st
}

func (l *ListenerStats) add(acceptor int, c *ListenerCells) {
	l.HalfClosed += c.HalfClosed.Load()
	l.Waiting += c.Waiting.Load()
	l.Waited.add(waitEndNames[:], c.Waited[:])
	l.Rejected.add(rejectNames[:], c.Rejected[:])
	l.Closed.add(reasonNames[:], c.Closed[:])
	l.Received.add(pathNames[:], c.Received[:])
	l.Sent.add(pathNames[:], c.Sent[:])
	l.Duration.add(c.Duration.Buckets[:], &c.Duration.Nanos)
	for i := range l.Acceptors {
		a := &l.Acceptors[i]
		if a.Number != acceptor {
			continue
		}
		a.Accepted = c.Accepted.Load()
		a.Active = c.Active.Load()
		a.AcceptErrors.add(acceptErrorNames[:], c.AcceptErrors[:])
		a.HandedOff = c.HandedOff.Load()
		a.Taken = c.Taken.Load()
		a.Rescued = c.Rescued.Load()
		a.Wait.add(c.Wait.Buckets[:], &c.Wait.Nanos)
	}
}

func (l *ListenerStats) balance(w *Window, now time.Time) {
	start, before := w.start(now)
	accepts := make([]float64, len(l.Acceptors))
	held := make([]float64, len(l.Acceptors))
	for i, a := range l.Acceptors {
		if before != nil {
			accepts[i] = float64(a.Accepted - before[Series{Acceptor: a.Number, Name: l.Name}])
		}
		held[i] = float64(a.Active)
	}
	l.Balance = ListenerBalance{
		WindowSeconds: now.Sub(start).Seconds(),
		Accepts:       BalanceOf(accepts),
		Held:          BalanceOf(held),
	}
}

func (s *Snapshot) readPools(b *Board, t Topology) {
	type name struct{ pool, backend string }
	pools, backends := map[string]*PoolStats{}, map[name]*BackendStats{}
	for i, p := range t.Pools {
		st := &s.Pools[i]
		*st = PoolStats{Name: p.Name, Pick: p.Pick, Backends: make([]BackendStats, len(p.Backends))}
		pools[p.Name] = st
		for j, be := range p.Backends {
			be.Addresses = append([]string{}, be.Addresses...) // never null in JSON
			st.Backends[j] = BackendStats{
				Backend:       be,
				ConnectErrors: newCounts(connectErrorNames[:]),
				Connect:       newHistogram(LatencyBuckets[:]),
			}
			backends[name{p.Name, be.Name}] = &st.Backends[j]
		}
	}
	for series, c := range b.Pools() {
		if p := pools[series.Name]; p != nil {
			p.Retries += c.Retries.Load()
			p.NoBackend += c.NoBackend.Load()
		}
	}
	for series, c := range b.Backends() {
		if be := backends[name{series.Pool, series.Name}]; be != nil {
			be.add(c)
		}
	}
}

func (be *BackendStats) add(c *BackendCells) {
	be.Active += c.Active.Load()
	be.Attempts += c.Attempts.Load()
	be.ConnectErrors.add(connectErrorNames[:], c.Errors[:])
	be.Sessions += c.Sessions.Load()
	be.Received += c.Received.Load()
	be.Sent += c.Sent.Load()
	be.Connect.add(c.Connect.Buckets[:], &c.Connect.Nanos)
}

func (s *Snapshot) readAcceptors(b *Board, t Topology) {
	byNumber := map[int]*AcceptorStats{}
	for i, a := range t.Acceptors {
		s.Acceptors[i].Acceptor, s.Acceptors[i].Health = a, t.Health[a.Number]
		byNumber[a.Number] = &s.Acceptors[i]
	}
	for series, c := range b.Acceptors() {
		if a := byNumber[series.Acceptor]; a != nil {
			a.read(c)
		}
	}
}

func (a *AcceptorStats) read(c *AcceptorCells) {
	a.Sessions = c.Sessions.Load()
	a.Accepting = c.Accepting.Load() != 0
	a.Turns = c.Turns.Load()
	a.PipesOpen = c.PipesOpen.Load()
	a.PipesInUse = c.PipesInUse.Load()
	a.PipeFallbacks = c.PipeFallbacks.Load()
	a.SpillBytes = c.SpillBytes.Load()
	a.Backoffs = c.Backoffs.Load()
	a.Batched = c.Batched.Load() != 0
	a.ThreadID = c.ThreadID.Load()
	a.PID = c.PID.Load()
	if cpu := c.CPU.Load() - 1; cpu >= 0 {
		a.CPU = &cpu
	}
}
