package metrics

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func noneHangs(int) bool { return false }

// Whatever comes, leaves, dies and hangs in whatever order: the turn is that of the one that
// came first of those that wait.
func TestPoolQueueIsFirstComeFirstServed(t *testing.T) {
	b := newBoard(t)
	q := b.PoolQueue(poolID)
	rapid.Check(t, func(t *rapid.T) {
		type waits struct {
			ticket uint64
			seat   int
		}
		b.clearQueue(poolID.Index())
		q.tail.Store(rapid.SampledFrom([]uint64{0, QueuePlaces - 3, 1 << 40}).Draw(t, "tickets before"))
		q.head.Store(q.tail.Load())
		var model []waits
		drop := func(gone func(w waits) bool) {
			kept := model[:0]
			for _, w := range model {
				if !gone(w) {
					kept = append(kept, w)
				}
			}
			model = kept
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			seat := rapid.IntRange(0, 3).Draw(t, "seat")
			hangs := noneHangs
			switch rapid.SampledFrom([]string{"join", "join", "join", "serve", "leave", "die", "hang"}).Draw(t, "step") {
			case "join":
				ticket, ok := q.Join(seat)
				if !ok {
					t.Fatal("not let in")
				}
				model = append(model, waits{ticket, seat})
			case "serve":
				if len(model) > 0 {
					q.Leave(model[0].ticket)
					model = model[1:]
				}
			case "leave":
				if len(model) > 0 {
					w := rapid.SampledFrom(model).Draw(t, "who")
					q.Leave(w.ticket)
					drop(func(v waits) bool { return v == w })
				}
			case "die":
				b.GiveBack(seat)
				drop(func(v waits) bool { return v.seat == seat })
			case "hang":
				hangs = func(s int) bool { return s == seat }
				for len(model) > 0 && model[0].seat == seat { // only those whose turn it is are looked at
					model = model[1:]
				}
			}
			ticket, first, ok := q.First(hangs)
			if ok != (len(model) > 0) || ok && (waits{ticket, first}) != model[0] {
				t.Fatalf("the turn is %d of seat %d, %t; want the first of %v", ticket, first, ok, model)
			}
			for _, w := range model {
				if !q.Waits(w.ticket) {
					t.Fatalf("%v waits no more", w)
				}
			}
			if q.Empty() && len(model) > 0 {
				t.Fatal("empty, they say")
			}
		}
	})
}

func TestPoolQueueIsBounded(t *testing.T) {
	q := newBoard(t).PoolQueue(poolID)
	for range QueuePlaces {
		if _, ok := q.Join(1); !ok {
			t.Fatal("not let in")
		}
	}
	if _, ok := q.Join(1); ok {
		t.Error("one too many was let in")
	}
	q.Leave(5) // behind the first: its place is free when that has gone
	ticket, _, _ := q.First(noneHangs)
	q.Leave(ticket)
	q.First(noneHangs)
	if _, ok := q.Join(2); !ok {
		t.Error("a place came free, and nobody is let in")
	}
}

// An acceptor that died as it had claimed a place and not said so stops no other.
func TestPoolQueueAfterADeath(t *testing.T) {
	b := newBoard(t)
	q := b.PoolQueue(poolID)
	q.ring[0].Store(1<<8 | queueWaits | 5)
	ticket, ok := q.Join(6)
	if !ok || ticket != 1 {
		t.Fatalf("ticket %d, %t", ticket, ok)
	}
	b.GiveBack(5)
	if first, seat, ok := q.First(noneHangs); first != 1 || seat != 6 || !ok {
		t.Errorf("the turn is %d of %d, %t", first, seat, ok)
	}
}

// Acceptors that come and go at the same time: each ticket is served once, in order.
func TestPoolQueueAtTheSameTime(t *testing.T) {
	b := newBoard(t)
	const seats, each = 4, 500
	var all sync.WaitGroup
	var served, last atomic.Uint64
	deadline := time.Now().Add(30 * time.Second)
	for seat := range seats {
		q := openAgain(t, b).PoolQueue(poolID)
		all.Go(func() {
			for range each {
				ticket, ok := q.Join(seat)
				for ok {
					if first, _, there := q.First(noneHangs); there && first == ticket {
						break
					}
					if time.Now().After(deadline) {
						t.Error("its turn does not come")
						return
					}
					time.Sleep(time.Microsecond)
				}
				if before := last.Swap(ticket); !ok || ticket != 0 && before >= ticket {
					t.Errorf("ticket %d, %t, after %d", ticket, ok, before)
				}
				served.Add(1)
				q.Leave(ticket)
			}
		})
	}
	all.Wait()
	if n := served.Load(); n != seats*each || !b.PoolQueue(poolID).Empty() {
		if _, _, more := b.PoolQueue(poolID).First(noneHangs); more || n != seats*each {
			t.Errorf("%d were served of %d, more wait: %t", n, seats*each, more)
		}
	}
}

// A new pool with the index of an old one begins with an empty queue.
func TestOpenPoolEmptiesItsQueue(t *testing.T) {
	b := newBoard(t)
	q := b.PoolQueue(poolID)
	for range 3000 { // more than a page
		q.Join(1)
	}
	b.OpenPool(NewID(poolID.Index(), 9))
	if !q.Empty() || q.Waits(2000) {
		t.Error("it is not empty")
	}
}

// A process that dies between two instructions leaves a place that no session has. It is
// given back, and one that a living acceptor is about to take is not.
func TestGiveBackRecounts(t *testing.T) {
	for name, was := range map[string]struct{ held, dead, alive, want int64 }{
		"before both":      {2, 0, 2, 2},
		"after Held":       {3, 0, 2, 2},
		"after both":       {3, 1, 2, 2},
		"while it gave":    {4, 1, 2, 2}, // Active was lowered, Held was not
		"held by nobody":   {1, 0, 0, 0},
		"as it should be":  {7, 3, 4, 4},
		"lower than it is": {1, 0, 2, 1}, // no acceptor of ours does that: it is left alone
	} {
		b := newBoard(t)
		b.OpenTarget(db1ID)
		b.Acceptor(0).Moving.Store(int64(db1ID.Index()) + 1)
		b.Held()[db1ID.Index()].Store(was.held)
		b.Target(0, db1ID).Active.Store(was.dead)
		b.Target(1, db1ID).Active.Store(was.alive)
		b.GiveBack(0)
		if got := b.Held()[db1ID.Index()].Load(); got != was.want {
			t.Errorf("%s: held %d, want %d", name, got, was.want)
		}
	}
	b := newBoard(t)
	b.OpenTarget(db1ID)
	b.Held()[db1ID.Index()].Store(1) // by a living one that has not said so yet
	b.Acceptor(0).Moving.Store(int64(db1ID.Index()) + 1)
	b.Acceptor(1).Moving.Store(int64(db1ID.Index()) + 1)
	b.GiveBack(0)
	if got := b.Held()[db1ID.Index()].Load(); got != 1 {
		t.Errorf("a place that was being taken was given back: held %d", got)
	}
}
