package control

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/cmd/internal/config"
	"sluice/listener"
	"sluice/metrics"
)

// change brings the service to another configuration: the first one at its start, and
// those of reloads. All that can fail comes first; after an error nothing has changed.
//
//	open sockets, make the Plan ─► every acceptor binds it ─► listen │ commit ─► steer ─► what is gone leaves
//	                          undone if something fails              │ cannot fail
func (s *service) change(c config.Config, sha256 string, addrs addresses) (err error) {
	var undo undoing
	defer func() {
		if err != nil {
			undo.run()
		}
	}()
	s.forget() // reloads in close order need the numbers of what the last ones took out
	before, now := s.state, time.Now()
	if err := s.checkNeeds(c, before); err != nil {
		return err
	}
	next := &state{config: c, sha256: sha256, addresses: addrs, generation: before.generation + 1}
	added, err := s.seatAcceptors(next, before, now, &undo)
	if err != nil {
		return err
	}
	opened, err := s.openFronts(next, before, now, &undo)
	if err != nil {
		return err
	}
	if err := s.guard(next); err != nil {
		return err
	}
	if err := next.gatherPools(before, s.ledger, s.board); err != nil {
		return err
	}
	if err := next.openNetworks(); err != nil {
		return err
	}
	next.keepAddresses(before)
	if err := next.makePlan(s.ledger, s.board); err != nil {
		return err
	}
	access, err := s.access.Prepare(accessOptions(c.Log))
	if err != nil {
		return err
	}
	undo.add(access.Discard)
	if err := s.host.Prepare(next.orders()); err != nil {
		return err
	}
	// New ones, and the new sockets of others. The first client waits until all listen.
	if err := together(serving(next.fronts), (*front).listen); err != nil {
		s.unprepare()
		return err
	}
	s.loosen(next, before)
	s.access.Put(access)
	s.commit(next)
	s.forgetRates(next, before)
	s.tellUnreached(next, before)
	s.steer(next, before, opened, added)
	s.watchdog.watch(next)
	return nil
}

// tellUnreached logs the addresses that are no targets, since their pool's source is of
// the other family: each once, when it or the source is new.
func (s *service) tellUnreached(next, before *state) {
	for _, p := range next.config.Pools {
		sameSource := slices.ContainsFunc(before.config.Pools, func(q config.Pool) bool { return q.Name == p.Name && slices.Equal(q.Source, p.Source) })
		for _, b := range p.Backends {
			for _, addr := range next.addresses[b.Address] {
				if !p.Reaches(addr.addr) && !(sameSource && slices.Contains(before.addresses[b.Address], addr)) {
					s.Log.Warn("an address is not tried: the pool's source is of the other family",
						"pool", p.Name, "backend", b.Address, "address", addr.addr.String(), "source", fmt.Sprint(p.Source))
				}
			}
		}
	}
}

// undoing is what takes back a change that fails.
type undoing []func()

func (u *undoing) add(f func()) { *u = append(*u, f) }

func (u *undoing) run() {
	for _, f := range slices.Backward(*u) {
		f()
	}
}

// seatAcceptors makes seats, or lets some leave, until as many serve as are configured.
func (s *service) seatAcceptors(next, before *state, now time.Time, undo *undoing) (added []int, err error) {
	count := next.config.Acceptors.Number()
	var made seating
	next.seats, added, made = before.seats.resized(count, s.retiring, now)
	if serve := len(next.seats.serving()); serve < count {
		return nil, fmt.Errorf("there is no place for %d acceptors while %d leave", count, len(next.seats)+len(s.retiring)-serve)
	}
	for _, st := range made {
		if st.settings, err = settings(next.config.Acceptors, st.number, count, s.nofile); err != nil {
			return nil, err
		}
		if st.mail, err = newMailbox(); err != nil {
			return nil, err
		}
		undo.add(func() { closeMailbox(st.mail) })
		added = append(added, st.number)
	}
	return added, nil
}

// openFronts keeps the fronts whose sockets serve the configured listeners, opens new
// ones for the others, and lets those leave that are not wanted any more.
func (s *service) openFronts(next, before *state, now time.Time, undo *undoing) (opened []*front, err error) {
	kept := map[metrics.ID]bool{}
	has := before.byAddress()
	for _, at := range addressesOf(next.config) {
		l := at.listener
		f := has[at.key()]
		if f != nil && f.keeps(l, at.bind) {
			copied := *f
			f, copied.config, copied.bind = &copied, l, at.bind
			kept[f.id] = true
			if err := s.adapt(f, before, next.seats.serving(), undo); err != nil {
				return nil, err
			}
		} else {
			if f, err = s.open(l, at.bind, next, before, undo); err != nil {
				return nil, err
			}
			opened = append(opened, f)
		}
		f.choice = choose(next.config.Acceptors, f, len(next.seats.serving()), s.support)
		next.fronts = append(next.fronts, f)
	}
	for _, f := range before.fronts {
		if kept[f.id] {
			continue
		}
		copied := *f
		if copied.leaving == nil {
			copied.leaving = newDeparture(now, now.Add(next.config.Limits.DrainTimeout))
		}
		next.fronts = append(next.fronts, &copied)
	}
	return opened, nil
}

// adapt gives a front that stays what it lacks.
func (s *service) adapt(f *front, before *state, seats []int, undo *undoing) error {
	for _, number := range seats {
		if f.group.FD(number) >= 0 {
			continue
		}
		if err := f.addSeat(number); err != nil {
			return err
		}
		undo.add(func() { _ = f.group.Remove(number) })
	}
	was := socketOptions(before.find(f.id).config, f.bind)
	if now := socketOptions(f.config, f.bind); now.Backlog != was.Backlog || now.Keeping != was.Keeping || now.Rights != was.Rights {
		undo.add(func() { _ = f.group.Adjust(was) })
		if err := f.group.Adjust(now); err != nil {
			return fmt.Errorf("listener %q: %w", f.config.Name, err)
		}
	}
	return nil
}

// open opens a new front.
func (s *service) open(l config.Listener, at config.Bind, next, before *state, undo *undoing) (*front, error) {
	s.fronts++
	id, isNew, err := s.ledger.listeners.mint(frontName{l.Name, s.fronts})
	if err != nil {
		return nil, err
	}
	if isNew {
		s.board.OpenListener(id)
	}
	var beside []*listener.Group
	for _, f := range before.fronts {
		if f.group.Len() > 0 && samePort(f.group, l.NetnsPath(), at.Address) {
			beside = append(beside, f.group)
		}
	}
	f, err := openFront(l, at, id, next.seats.serving(), beside, s.Log)
	if err != nil {
		return nil, err
	}
	undo.add(f.close)
	return f, nil
}

// loosen ends steering of what leaves: a new front on the same port must not meet it.
func (s *service) loosen(next, before *state) {
	for _, f := range before.fronts {
		now := next.find(f.id)
		if now == nil || now.leaving != nil && f.leaving == nil {
			f.steered.detach()
		}
	}
}

// commit puts what was prepared in force.
func (s *service) commit(next *state) {
	before := s.state
	s.health.Commit(next.watched())
	next.limit(s.board)
	s.watchdog.give(next.generation)
	s.nameRecords(next)
	s.wantRecords(next)
	s.host.Commit()
	next.dropMissing(s.ledger)
	next.sumUp(before, s.ledger)
	next.toldIn(next.generation)
	s.replace(next)
	s.tellMerged(before, next)
	s.admission.keep(next.fronts)
	s.movement.committed(before, next)
	letGoNetworks(before, next)
}

// replace makes next the state that is in force.
func (s *service) replace(next *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = next
}

// steer brings steering in line with a committed change.
func (s *service) steer(next, before *state, opened []*front, added []int) {
	seats := next.seats.serving()
	var anew []*front
	for _, f := range next.fronts {
		was := before.find(f.id)
		switch {
		case f.leaving != nil:
		case was == nil, f.steered.program == nil, next.config.Acceptors.Steering != before.config.Acceptors.Steering, was.choice != f.choice:
			anew = append(anew, f)
		default:
			s.reseat(f, added)
		}
	}
	_ = together(anew, func(f *front) error {
		f.steer(seats, next.config.Acceptors, s.Log)
		return nil
	})
	for _, f := range next.fronts {
		if f.leaving == nil {
			f.avoidLeaving(next.seats)
		}
	}
}

// together does something with each front, on all CPUs: to load a program takes the
// kernel 2 ms. It returns the error of one that failed.
func together(fronts []*front, do func(*front) error) error {
	var all sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range min(len(fronts), runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(fronts)); i = next.Add(1) - 1 {
				if err := do(fronts[i]); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// reseat steers to new seats of a front.
func (s *service) reseat(f *front, added []int) {
	for _, number := range added {
		if err := f.steered.program.Place(number, f.group.FD(number)); err != nil {
			s.Log.Warn("a new acceptor is not steered to", "listener", f.config.Name, "acceptor", number, "error", err)
		}
	}
}

// avoidLeaving steers no more to seats that leave.
func (f *front) avoidLeaving(seats seating) {
	for _, st := range seats {
		if st.leaving == nil || st.leaving.stage != announced || f.steered.program.Avoids(st.number) {
			continue
		}
		if err := f.steered.program.Remove(st.number); err != nil && !slices.Contains(st.leaving.quiesce, f.id) {
			st.leaving.quiesce = append(st.leaving.quiesce, f.id) // its handshakes must be held off
		}
	}
}

// publish puts in force a state that differs from the last in phases only.
func (s *service) publish(next *state) error {
	next.generation = s.state.generation + 1
	if err := next.makePlan(s.ledger, s.board); err != nil {
		return err
	}
	if err := s.host.Prepare(next.orders()); err != nil {
		return err
	}
	s.commit(next)
	s.watchdog.watch(next)
	return nil
}

// unprepare has the host forget what was prepared and will not be committed.
func (s *service) unprepare() {
	if s.state.plan == nil {
		return // the service does not start
	}
	again := *s.state
	if err := s.publish(&again); err != nil {
		s.Log.Error("the last plan could not be prepared again", "error", err)
	}
}
