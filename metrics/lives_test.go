package metrics

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"
)

// fill sets every word of cells, spare ones too, to n.
func fill[T any](cells *T, n uint64) {
	for i := range wordsOf(cells) {
		wordsOf(cells)[i] = n
	}
}

// filled says how many words of cells are not zero.
func filled[T any](cells *T) (n int) {
	for _, w := range wordsOf(cells) {
		if w != 0 {
			n++
		}
	}
	return n
}

// An index that is used again is zero in every stripe, the retired one too, and
// its neighbours keep what they have.
func TestReusedIndexStartsAtZero(t *testing.T) {
	b := newBoard(t)
	seats := []int{0, 1, 7, 8, 40, 63}
	const before, reused, after = 4, 5, 6
	open := func(generation uint64, indices ...uint32) {
		for _, i := range indices {
			b.OpenListener(NewID(i, generation))
			b.OpenPool(NewID(i, generation))
			b.OpenTarget(NewID(i, generation))
			b.OpenRoute(NewID(i, generation))
		}
	}
	use := func(seat int) {
		for _, i := range []uint32{before, reused, after} {
			fill(b.Listener(seat, NewID(i, 1)), 1)
			fill(b.Pool(seat, NewID(i, 1)), 1)
			fill(b.Target(seat, NewID(i, 1)), 1)
			fill(b.Route(seat, NewID(i, 1)), 1)
		}
	}
	open(1, before, reused, after)
	use(20)
	b.Retire(20)
	for _, seat := range seats {
		use(seat)
	}
	b.Held()[reused].Store(1)
	b.Weights()[reused].Store(1)
	open(2, reused)
	for _, seat := range append(seats, retired) {
		words := func(index uint32) (n int) {
			return filled(cellsAt[ListenerCells](b, listenerTable.place(seat, index))) +
				filled(cellsAt[PoolCells](b, poolTable.place(seat, index))) +
				filled(cellsAt[TargetCells](b, targetTable.place(seat, index))) +
				filled(cellsAt[RouteCells](b, routeTable.place(seat, index)))
		}
		if got := words(reused); got != 0 {
			t.Errorf("stripe %d: %d words of the reused index are left", seat, got)
		}
		if words(before) == 0 || words(after) != words(before) {
			t.Errorf("stripe %d: the neighbours have %d and %d words left", seat, words(before), words(after))
		}
	}
	if b.Held()[reused].Load() != 0 || b.Weights()[reused].Load() != 0 {
		t.Error("Held or Weight of the reused index is left")
	}
}

// A successor does not know what its predecessor opened, so it zeroes all.
func TestSuccessorOwnsTheBoard(t *testing.T) {
	old := newBoard(t)
	openFixture(old)
	old.Target(3, db1ID).Attempts.Add(1)
	old.Listener(3, quietID).Accepted.Add(2)
	successor := openAgain(t, old)
	successor.OpenTarget(NewID(uint32(db1ID.Index()), 9))
	if got := old.Target(3, db1ID).Attempts.Load(); got != 0 {
		t.Errorf("%d attempts of the target before", got)
	}
	if lost := successor.GiveBack(3); lost[NewID(uint32(quietID.Index()), 0)] != 2 {
		t.Errorf("lost %v, want 2 of the listener, whose generation is not known", lost)
	}
}

// A service whose backends come and go for years needs the memory of those that
// are there.
func TestBoardForgets(t *testing.T) {
	const seats, live, opened = 4, 10, 100_000
	use := func(b *Board, id ID) {
		b.OpenTarget(id)
		for seat := range seats {
			b.Target(seat, id).Attempts.Add(1)
			b.Held()[id.Index()].Add(1)
		}
	}
	few := newBoard(t)
	for i := range live {
		use(few, NewID(uint32(i), 0))
	}
	many := newBoard(t)
	for i := range opened {
		id := NewID(uint32(i%live), uint64(i/live))
		use(many, id)
		if got := many.Target(i%seats, id).Attempts.Load(); got != 1 {
			t.Fatalf("target %d begins with %d attempts", i, got-1)
		}
	}
	if got, want := allocatedBytes(t, many.FD()), allocatedBytes(t, few.FD()); got > want {
		t.Errorf("%d targets one after the other take %d bytes, %d take %d", opened, got, live, want)
	}
}

// A seat that leaves takes its own series along, and no total changes.
func TestRetire(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	top := fixtureTopology()
	var w Window
	for seat := range 3 {
		act(b, seat)
		fill(b.Pool(seat, poolID), uint64(seat+1))
		target := b.Target(seat, db2ID)
		fill(target, uint64(seat+1))
		target.Active.Store(0)
		b.GiveBack(seat)
	}
	// Every counter is in what is compared.
	b.Listener(1, webID).Duration.Observe(time.Minute)
	b.Listener(1, webID).Received[PathSplice].Add(1000)
	top.Acceptors = top.Acceptors[:1]
	text := func() string {
		got, err := json.Marshal(TakeSnapshot(b, &w, top, fixtureTime))
		check(t, err)
		return string(got)
	}
	before, pages := text(), allocatedBytes(t, b.FD())
	b.Retire(1)
	if after := text(); after != before {
		t.Errorf("after one has left:\n%s\nbefore:\n%s", after, before)
	}
	b.Retire(2)
	if after := text(); after != before {
		t.Errorf("after two have left:\n%s\nbefore:\n%s", after, before)
	}
	if after := allocatedBytes(t, b.FD()); after >= pages {
		t.Errorf("two seats left, and the board has %d bytes, %d before", after, pages)
	}
	for _, seat := range []int{1, 2} {
		if b.view(seat) != nil {
			t.Errorf("the stripe of seat %d still has pages", seat)
		}
		if n := filled(b.Listener(seat, webID)) + filled(b.Acceptor(seat)) + filled(b.Target(seat, db2ID)); n != 0 {
			t.Errorf("seat %d has %d words left", seat, n)
		}
	}
	b.Retire(9) // was never used
	if after := text(); after != before {
		t.Errorf("after a seat that was never used:\n%s\nbefore:\n%s", after, before)
	}
}

// Whatever a seat still holds as it leaves is given back, not added up.
func TestRetireGivesBack(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	act(b, 1)
	b.Held()[db1ID.Index()].Store(2)
	b.Retire(1)
	c := cellsAt[ListenerCells](b, listenerTable.place(retired, webID.Index()))
	if c.Active.Load() != 0 || c.Closed[ReasonWorkerDied].Load() != 3 || b.Held()[db1ID.Index()].Load() != 0 {
		t.Errorf("retired: %d active, %d died, %d held; want 0, 3, 0",
			c.Active.Load(), c.Closed[ReasonWorkerDied].Load(), b.Held()[db1ID.Index()].Load())
	}
}

// No total moves while seats leave one after the other, whenever it is read.
func TestTotalsNeverFall(t *testing.T) {
	top := fixtureTopology()
	deadline := time.Now().Add(20 * time.Second)
	for range 30 {
		b := newBoard(t)
		openFixture(b)
		for seat := range MaxAcceptors {
			b.Listener(seat, webID).Closed[ReasonClientEOF].Add(1)
			b.Target(seat, db1ID).Sessions.Add(1)
		}
		var leaving sync.WaitGroup
		done := make(chan struct{})
		leaving.Go(func() {
			defer close(done)
			for seat := range MaxAcceptors {
				b.Retire(seat)
			}
		})
		for running := true; running && time.Now().Before(deadline); {
			select {
			case <-done:
				running = false
			default:
			}
			s := TakeSnapshot(b, &Window{}, top, fixtureTime)
			closed, sessions := s.Listeners[0].Closed.Of("client_eof"), s.Pools[0].Backends[0].Targets[0].Sessions
			if closed != MaxAcceptors || sessions != MaxAcceptors {
				t.Errorf("%d closed and %d sessions, want %d each", closed, sessions, MaxAcceptors)
				running = false
			}
		}
		leaving.Wait()
	}
}

// A worker that writes at random shows figures at random, and no more: the owner
// reads them, cleans up, goes on, and its other seats' figures stay.
func TestScribbledStripe(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	act(b, 0)
	worker := openAgain(t, b)
	noise := rand.New(rand.NewPCG(1, 2))
	stripe := worker.words(acceptorTable.place(1, 0), stripeSize)
	for i := range stripe {
		stripe[i] = noise.Uint64()
	}
	worker.Listener(1, webID).Active.Store(math.MinInt64) // no balance can be made of that
	top := fixtureTopology()
	var w Window
	look := func() Snapshot {
		w.Sample(b, []ID{webID, quietID}, []int{0, 1}, fixtureTime)
		s := TakeSnapshot(b, &w, top, fixtureTime)
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("status: %v", err)
		}
		scrape(t, s)
		return s
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		look()
		worker.Listener(1, webID).Accepted.Store(0) // a counter that goes backwards
		if got := look().Listeners[0].Balance.Accepts.Total; got != 0 {
			t.Errorf("%v accepted in the window, want none", got)
		}
		b.GiveBack(1)
		b.OpenTarget(NewID(uint32(db2ID.Index()), 3))
		b.Retire(1)
		if own := look().Listeners[0].Acceptors[0]; own.Accepted != 10 || own.Active != 2 {
			t.Errorf("seat 0 has accepted %d and holds %d, want 10 and 2", own.Accepted, own.Active)
		}
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the owner hangs")
	}
	b.Acceptor(1).Turns.Add(1)
	if s := look(); !reflect.DeepEqual(s.Acceptors[1], AcceptorStats{Acceptor: top.Acceptors[1], Turns: 1}) {
		t.Errorf("the next acceptor of the seat begins with %+v", s.Acceptors[1])
	}
}

// Where the kernel neither tells which pages there are nor takes them back, all
// goes on, at the price of memory.
func TestBoardWithoutHoles(t *testing.T) {
	b := newBoard(t)
	openFixture(b)
	act(b, 1)
	fd := b.fd
	b.fd = -1
	defer func() { b.fd = fd }()
	b.OpenTarget(NewID(uint32(db1ID.Index()), 2))
	if got := b.Target(1, db1ID).Active.Load(); got != 0 {
		t.Errorf("a reused target is held by %d", got)
	}
	b.Retire(1)
	s := TakeSnapshot(b, &Window{}, fixtureTopology(), fixtureTime).Listeners[0]
	if s.Closed.Of("worker_died") != 3 || s.Closed.Of("client_eof") != 5 || filled(b.Listener(1, webID)) != 0 {
		t.Errorf("after the seat has left: closed %v, %d words left", s.Closed, filled(b.Listener(1, webID)))
	}
}
