package health

import (
	"container/heap"
	"log/slog"
	"math/rand/v2"
	"time"

	"sluice/cmd/internal/config"
	"sluice/proxy/pool"
)

// maxBusy bounds the checks under way: each is a descriptor, and a goroutine if it says something.
// 10,000 targets that all take a second and are due every 2 s need 5,000; those that answer need
// some 10.
const maxBusy = 4096

// spacing is what lies between the first checks of targets that begin together, unless
// there are so many that they fill the interval.
const spacing = time.Millisecond

// together is what a check may be early by, so that several begin at one wake-up: to be
// woken costs more than a check of a machine near by.
const together = 10 * time.Millisecond

// schedule is a heap of targets by due.
type schedule []*target

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

func (s *schedule) Push(x any) {
	t := x.(*target)
	t.place = len(*s)
	*s = append(*s, t)
}

func (s *schedule) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	t.place = -1
	return t
}

// put sets when a target is due. It is not being checked.
func (s *schedule) put(t *target, due time.Time) {
	t.due = due
	if t.place >= 0 {
		heap.Fix(s, t.place)
	} else {
		heap.Push(s, t)
	}
}

func (s *schedule) remove(t *target) {
	if t.place >= 0 {
		heap.Remove(s, t.place)
	}
}

// spread has targets checked soon, one after the other.
func (k *Keeper) spread(soon []*target, now time.Time) {
	if len(soon) == 0 {
		return
	}
	h := soon[0].in.config.Health
	step := min(spacing, h.Interval/time.Duration(len(soon)))
	for i, t := range soon {
		if !t.checking {
			k.due.put(t, now.Add(time.Duration(i)*step))
		}
	}
}

// again puts a target that was checked back into the schedule.
func (k *Keeper) again(t *target, begun time.Time) {
	h := t.in.config.Health
	interval := h.Interval
	if t.verdict.inDoubt() && h.FastInterval > 0 {
		interval = min(interval, h.FastInterval)
	}
	k.due.put(t, begun.Add(jittered(interval, h.Jitter)))
}

func jittered(d time.Duration, by float64) time.Duration {
	return time.Duration(float64(d) * (1 + by*(2*rand.Float64()-1)))
}

// run is the schedule: it starts checks when they are due, lets weights grow, looks for ill
// targets, and ends what operators wanted for a time. It sleeps while there is nothing of that.
func (k *Keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
		next, connects := k.step(time.Now())
		if connects != nil {
			k.conns.begin(connects)
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// step does what is due, but for the checks that only connect, which it returns, and says when
// something is due next; zero = when it is woken.
func (k *Keeper) step(now time.Time) (next time.Time, connects []*connect) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	sooner(k.expire(now))
	sooner(k.warm(now))
	sooner(k.lookForIll(now))
	for len(k.due) > 0 && k.busy < k.o.AtATime {
		t := k.due[0]
		if t.due.After(now.Add(together)) {
			sooner(t.due)
			break
		}
		heap.Pop(&k.due)
		if k.orders[t.key()].Want == Disable {
			k.again(t, now) // it is not asked, until it is enabled
			continue
		}
		k.busy++
		t.checking = true
		c, asked := t.in.check, t.Target
		if k.conns == nil || !c.connects() {
			k.ended.Go(func() { k.check(t, c, asked) })
			continue
		}
		connects = append(connects, &connect{check: c, to: asked.Addr, doubt: !t.verdict.up || t.verdict.inDoubt(), done: func(begun time.Time, err error) {
			k.checked(t, c, begun, outcome{err: err, failure: classify(err)})
		}})
	}
	return next, connects
}

// check is the goroutine of one check.
func (k *Keeper) check(t *target, c *check, asked pool.Target) {
	if c.health.Check == config.CheckCommand {
		select {
		case k.turns <- struct{}{}:
			defer func() { <-k.turns }()
		case <-k.ctx.Done():
			return
		}
	}
	begun := time.Now()
	k.checked(t, c, begun, k.probe(k.ctx, c, asked))
}

// checked takes in the result of a check of a target, and puts that back into the schedule.
func (k *Keeper) checked(t *target, c *check, begun time.Time, o outcome) {
	now := time.Now()
	if k.ctx.Err() != nil {
		return // broken off: that says nothing of the target
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() {
		if k.busy+1 == k.o.AtATime || t.place == 0 { // the schedule waits for this
			k.look()
		}
	}()
	k.busy--
	t.checking = false
	if t.in == nil || t.in.check == nil {
		return // it has left, or is not checked any more
	}
	if t.in.check != c { // it was asked something else meanwhile
		k.due.put(t, now)
		return
	}
	k.found(t, o, now, now.Sub(begun))
	k.again(t, begun)
}

// found takes in what a check has found.
func (k *Keeper) found(t *target, o outcome, now time.Time, took time.Duration) {
	h := t.in.config.Health
	t.found.Last, t.found.Seconds, t.found.Error = now, took.Seconds(), ""
	if !o.certificate.IsZero() {
		t.found.Certificate = o.certificate
	}
	if o.err != nil {
		t.found.Error = o.err.Error()
		t.verdict.failures[o.failure]++
	}
	if lacking(o.err) { // else all would be down that cannot be asked
		k.logOf(t).Warn("backend cannot be checked", "check", h.Check, "error", o.err)
		return
	}
	if !t.verdict.add(o.err == nil, h.Rise, h.Fall, now) {
		return
	}
	if t.verdict.up {
		k.logOf(t).Info("backend is up")
	} else {
		k.logOf(t).Warn("backend is down", "check", h.Check, "reason", o.failure.String(), "error", o.err)
	}
	k.changed(t, now)
}

func (k *Keeper) logOf(t *target) *slog.Logger {
	return k.o.Log.With("pool", t.in.config.Name, "backend", t.Backend, "address", pool.AddressText(t.Addr))
}
