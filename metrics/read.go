package metrics

import (
	"maps"
	"slices"
	"time"
)

// TakeSnapshot reads the board's figures on what is in t, at now. Its cost is that
// of the things in t times the seats in use, and cells that were never touched are
// not read. While it reads, no seat is retired and no ID begins: totals are whole.
func TakeSnapshot(b *Board, w *Window, t Topology, now time.Time) Snapshot {
	s := Snapshot{
		Time: now, Service: t.Service, Netns: t.Netns,
		Listeners: make([]ListenerStats, len(t.Listeners)),
		Pools:     make([]PoolStats, len(t.Pools)),
		Acceptors: make([]AcceptorStats, len(t.Acceptors)),
		Workers:   append([]Worker{}, t.Workers...), // never null in JSON
	}
	s.DNS.Lookups = map[string]uint64{}
	maps.Copy(s.DNS.Lookups, t.DNS.Lookups)
	s.Files = append([]File{}, t.Files...)
	s.DNS.Names = append([]Name{}, t.DNS.Names...)
	s.Config.Reload.Results = map[string]uint64{}
	for _, word := range reloadResults {
		s.Config.Reload.Results[word] = 0
	}
	maps.Copy(s.Config.Reload.Results, t.Config.Reload.Results)

	s.AccessLog.Dropped = map[string]uint64{}
	for _, word := range accessLosses {
		s.AccessLog.Dropped[word] = t.AccessLog.Dropped[word]
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	r := reader{start: w.start(now), now: now, lives: &b.lives, opened: b.targets, acceptors: t.Acceptors, failing: b.Failing(), health: t.Health}
	for i := range r.stripes {
		r.stripes[i] = b.view(i)
	}
	for i, l := range t.Listeners {
		s.Listeners[i] = r.listener(l)
	}
	for i, p := range t.Pools {
		s.Pools[i] = r.pool(p)
	}
	for i, a := range t.Acceptors {
		s.Acceptors[i] = AcceptorStats{Acceptor: a}
		if c := cellsOf[AcceptorCells](r.stripes[a.Number], acceptorTable, 0); c != nil {
			s.Acceptors[i].read(c)
		}
	}
	return s
}

// reader reads one snapshot.
type reader struct {
	stripes   [stripes]*view
	start     *sample // of the window
	now       time.Time
	lives     *[MaxAcceptors]uint64
	opened    []ID // targets, by index; of generation 0 where it is not known
	acceptors []Acceptor
	failing   []Failing
	health    map[ID]Health

	// Sums over the stripes, one thing's at a time.
	listenerSum ListenerCells
	poolSum     PoolCells
	targetSum   TargetCells
	socketSum   ListenerCells
	routeSum    RouteCells

	// Memory of the Snapshot, by the hundred: it has an array or two for each of 10,000
	// backends.
	numbers slab[uint64]
	buckets slab[Bucket]
	targets slab[TargetStats]
}

// sumOf adds up what all stripes hold on an index.
func sumOf[T any](r *reader, total *T, t table, index uint32) {
	*total = *new(T)
	for _, v := range r.stripes {
		if c := cellsOf[T](v, t, index); c != nil {
			sum(total, c)
		}
	}
}

func (r *reader) listener(l Listener) ListenerStats {
	c := &r.listenerSum
	sumOf(r, c, listenerTable, l.ID.Index())
	for _, id := range l.Earlier {
		var earlier ListenerCells
		sumOf(r, &earlier, listenerTable, id.Index())
		sum(c, &earlier)
	}
	st := ListenerStats{
		Listener:   l,
		HalfClosed: c.HalfClosed.Load(),
		Waiting:    c.Waiting.Load(),
		Waited:     r.counts(waitEndNames[:], c.Waited[:]),
		Rejected:   r.counts(rejectNames[:], c.Rejected[:]),
		Closed:     r.counts(reasonNames[:], c.Closed[:]),
		Received:   r.counts(pathNames[:], c.Received[:]),
		Sent:       r.counts(pathNames[:], c.Sent[:]),
		HeldBack:   c.heldBack(),
		Duration:   r.histogram(DurationBuckets[:], c.Duration.Buckets[:], &c.Duration.Nanos),
		Acceptors:  make([]ListenerSocket, len(r.acceptors)),
	}
	st.Queues = nil // now with the acceptors
	st.Routes = r.routes(l.Routes)
	for i, a := range r.acceptors {
		st.Acceptors[i] = r.socket(l, a)
	}
	st.Balance = r.balance(&st)
	return st
}

func (r *reader) routes(of []Route) []Route {
	all := slices.Clone(of)
	for i := range all {
		if route := &all[i]; route.ID != 0 {
			sumOf(r, &r.routeSum, routeTable, route.ID.Index())
			route.Sessions, route.Active = r.routeSum.Sessions.Load(), r.routeSum.Active.Load()
			route.Received, route.Sent = r.routeSum.Received.Load(), r.routeSum.Sent.Load()
		}
	}
	return all
}

func (c *ListenerCells) heldBack() (all []HeldBack) {
	for d, name := range directionNames {
		all = append(all, HeldBack{name, c.HeldBack[d].Load(), float64(c.HeldBackNanos[d].Load()) / 1e9})
	}
	return all
}

func (r *reader) socket(l Listener, a Acceptor) ListenerSocket {
	c := &r.socketSum
	*c = ListenerCells{}
	for i := -1; i < len(l.Earlier); i++ {
		id := l.ID
		if i >= 0 {
			id = l.Earlier[i]
		}
		if part := cellsOf[ListenerCells](r.stripes[a.Number], listenerTable, id.Index()); part != nil {
			sum(c, part)
		}
	}
	s := ListenerSocket{
		Acceptor:     a,
		Accepted:     c.Accepted.Load(),
		Active:       c.Active.Load(),
		AcceptErrors: r.counts(acceptErrorNames[:], c.AcceptErrors[:]),
		HandedOff:    c.HandedOff.Load(),
		Taken:        c.Taken.Load(),
		Rescued:      c.Rescued.Load(),
		Wait:         r.histogram(LatencyBuckets[:], c.Wait.Buckets[:], &c.Wait.Nanos),
	}
	if q, ok := l.Queues[a.Number]; ok {
		s.Queue = &q
	}
	return s
}

func (r *reader) balance(l *ListenerStats) ListenerBalance {
	accepts := make([]float64, len(l.Acceptors))
	held := make([]float64, len(l.Acceptors))
	var seconds float64
	if r.start != nil {
		seconds = r.now.Sub(r.start.at).Seconds()
	}
	for i, a := range l.Acceptors {
		// A worker that writes at random may show what cannot be: it counts as none.
		if r.start != nil {
			before := r.start.before(l.ID, a.Number, r.lives[a.Number])
			for _, id := range l.Earlier {
				before += r.start.before(id, a.Number, r.lives[a.Number])
			}
			accepts[i] = float64(max(a.Accepted, before) - before)
		}
		held[i] = float64(max(a.Active, 0))
	}
	return ListenerBalance{WindowSeconds: seconds, Accepts: BalanceOf(accepts), Held: BalanceOf(held)}
}

func (r *reader) pool(p Pool) PoolStats {
	c := &r.poolSum
	sumOf(r, c, poolTable, p.ID.Index())
	st := PoolStats{
		ID: p.ID, Name: p.Name, Pick: p.Pick, Panic: p.Panic,
		Retries:   c.Retries.Load(),
		NoBackend: c.NoBackend.Load(),
		Unpaid:    c.Unpaid.Load(),
		Capped:    c.Capped.Load(),
		Backends:  make([]BackendStats, len(p.Backends)),
	}
	if ends := r.counts(queueEndNames[:], c.QueueEnds[:]); p.Queue > 0 || ends.Of(queueEndNames[QueueFull]) > 0 {
		st.Queue = &PoolQueueStats{
			Length: c.Queued.Load(), Limit: p.Queue, Ends: ends,
			Wait: r.histogram(LatencyBuckets[:], c.QueueWait.Buckets[:], &c.QueueWait.Nanos),
		}
	}
	for i, be := range p.Backends {
		st.Backends[i] = r.backend(be)
	}
	return st
}

func (r *reader) backend(be Backend) BackendStats {
	st := BackendStats{Name: be.Name, Weight: be.Weight, Backup: be.Backup, MaxSessions: be.MaxSessions, Targets: r.targets.some(len(be.Targets))}
	var all TargetCells
	for i, t := range be.Targets {
		st.Targets[i] = r.target(t)
		if be.Merged {
			sum(&all, &r.targetSum)
		}
	}
	if be.Merged {
		st.Merged = r.merge(be, st.Targets, &all)
	}
	return st
}

// sumOfTarget adds up a target's cells. Where another has taken its place since the
// Topology was made, it has none.
func (r *reader) sumOfTarget(id ID) {
	r.targetSum = TargetCells{}
	if i := int(id.Index()); i >= len(r.opened) || r.opened[i] == id || r.opened[i].Generation() == 0 {
		sumOf(r, &r.targetSum, targetTable, id.Index())
	}
}

func (r *reader) target(t Target) TargetStats {
	r.sumOfTarget(t.ID)
	st := r.figures(&r.targetSum)
	st.Target, st.Health = t, r.health[t.ID]
	if f := r.failing[t.ID.Index()].Load(); f.Failures() > 0 {
		st.Failing, st.FailingClass = true, f.Word()
	}
	return st
}

// figures are those of cells that were added up.
func (r *reader) figures(c *TargetCells) TargetStats {
	return TargetStats{
		Active:        c.Active.Load(),
		Attempts:      c.Attempts.Load(),
		ConnectErrors: r.counts(connectErrorNames[:], c.Errors[:]),
		Sessions:      c.Sessions.Load(),
		Received:      c.Received.Load(),
		Sent:          c.Sent.Load(),
		Connect:       r.histogram(LatencyBuckets[:], c.Connect.Buckets[:], &c.Connect.Nanos),
		Probes:        r.counts(probeEndNames[:], c.Probes[:]),
		Ejections:     r.counts(ejectReasonNames[:], c.Ejected[:]),
	}
}

func (a *AcceptorStats) read(c *AcceptorCells) {
	a.Hung = c.Hung.Load() != 0
	a.Hangs = c.Hangs.Load()
	a.Parked = c.Parked.Load() != 0
	a.Generation = c.Generation.Load()
	a.Sessions = c.Sessions.Load()
	a.Accepting = c.Accepting.Load() != 0
	a.Turns = c.Turns.Load()
	a.PipesOpen = c.PipesOpen.Load()
	a.PipesInUse = c.PipesInUse.Load()
	a.PipeFallbacks = c.PipeFallbacks.Load()
	a.SpliceDenied = c.SpliceDenied.Load()
	a.SourcesEvicted, a.SourcesUntracked = c.SourcesEvicted.Load(), c.SourcesUntracked.Load()
	a.SpillBytes = c.SpillBytes.Load()
	a.Backoffs = c.Backoffs.Load()
	a.Batched = c.Batched.Load() != 0
	a.ThreadID = c.ThreadID.Load()
	a.PID = c.PID.Load()
	if cpu := c.CPU.Load() - 1; cpu >= 0 {
		a.CPU = &cpu
	}
}
