package control

import (
	"slices"
	"testing"
	"time"

	"sluice/proxy"
)

// leaver is what leaves: as much of it as a departure looks at.
type leaver struct {
	waitingNow  int
	acceptedNow uint64
	holdsNow    bool
	did         []string
}

func (l *leaver) departing() departing {
	return departing{
		waiting: func() int { return l.waitingNow }, accepted: func() uint64 { return l.acceptedNow },
		hold: func() { l.did = append(l.did, "hold") }, holdAll: func() { l.did = append(l.did, "hold all") }, stop: func() { l.did = append(l.did, "stop") }, close: func() { l.did = append(l.did, "close") },
		holds: func() bool { return l.holdsNow }, quietFor: quietFor, quietMost: quietAtMost,
	}
}

// journey is a departure that is stepped through time.
type journey struct {
	t *testing.T
	*departure
	leaver  *leaver
	start   time.Time
	reached uint64
	hurried bool
}

func newJourney(t *testing.T, drain time.Duration) *journey {
	start := time.Now()
	var deadline time.Time
	if drain > 0 {
		deadline = start.Add(drain)
	}
	j := &journey{t: t, departure: newDeparture(start, deadline), leaver: &leaver{}, start: start}
	j.generation, j.reached = 7, 6
	return j
}

// at steps this long after the start, and says what must have come of it.
func (j *journey) at(after time.Duration, tell bool, s stage, phase proxy.Phase) {
	j.t.Helper()
	got := j.step(j.start.Add(after), j.leaver.departing(), j.reached, j.hurried)
	if got != tell || j.stage != s || j.phase != phase {
		j.t.Fatalf("after %v: tell %v, stage %d, phase %v; want %v, %d, %v", after, got, j.stage, j.phase, tell, s, phase)
	}
}

// told says that a Plan with the phase has been published, and whether all run it.
func (j *journey) told(generation uint64, known bool) {
	j.t.Helper()
	if j.generation != 0 {
		j.t.Fatalf("generation %d was announced already", j.generation)
	}
	j.generation = generation
	if known {
		j.reached = generation
	}
}

func (j *journey) did(want ...string) {
	j.t.Helper()
	if !slices.Equal(j.leaver.did, want) {
		j.t.Fatalf("it did %v, want %v", j.leaver.did, want)
	}
}

const ms = time.Millisecond

// The whole way, with acceptors that turn.
func TestDeparture(t *testing.T) {
	j := newJourney(t, 10*time.Second)
	j.leaver.holdsNow, j.leaver.waitingNow = true, 2
	j.at(10*ms, false, announced, proxy.PhaseLeaving) // not all know
	j.did()
	j.reached = 7
	j.at(20*ms, false, emptying, proxy.PhaseLeaving)
	j.did("hold")
	j.at(190*ms, false, emptying, proxy.PhaseLeaving) // two wait
	j.leaver.waitingNow, j.leaver.acceptedNow = 0, 2
	j.at(200*ms, false, emptying, proxy.PhaseLeaving) // they have been accepted
	j.at(399*ms, false, emptying, proxy.PhaseLeaving)
	j.leaver.acceptedNow = 3 // one more, which was never seen to wait
	j.at(400*ms, false, emptying, proxy.PhaseLeaving)
	j.at(599*ms, false, emptying, proxy.PhaseLeaving)
	j.at(600*ms, true, closing, proxy.PhaseClosed)
	j.at(610*ms, false, closing, proxy.PhaseClosed) // the Plan that tells of it failed
	j.told(8, false)
	j.at(620*ms, false, closing, proxy.PhaseClosed)
	j.did("hold", "hold all")
	j.reached = 8
	j.at(630*ms, false, ending, proxy.PhaseClosed)
	j.did("hold", "hold all", "stop")
	j.at(9*time.Second, false, ending, proxy.PhaseClosed) // sessions run
	j.leaver.holdsNow = false
	j.at(9100*ms, true, gone, proxy.PhaseClosed)
	j.did("hold", "hold all", "stop", "close")
}

// Acceptors that do not turn hold up each stage for so long and no longer.
func TestDepartureDoesNotWaitForTheSilent(t *testing.T) {
	j := newJourney(t, 10*time.Second)
	j.at(999*ms, false, announced, proxy.PhaseLeaving)
	j.at(1000*ms, false, emptying, proxy.PhaseLeaving)
	j.at(1200*ms, true, closing, proxy.PhaseClosed)
	j.told(8, false)
	j.at(2199*ms, false, closing, proxy.PhaseClosed)
	j.at(2200*ms, false, ending, proxy.PhaseClosed)
	j.leaver.holdsNow = true
	j.at(2210*ms, false, ending, proxy.PhaseClosed)
	j.did("hold", "hold all", "stop") // the numbers of its sockets stay taken: a loop may look at them yet
	j.reached = 8
	j.at(2220*ms, false, ending, proxy.PhaseClosed)
	j.at(2230*ms, false, ending, proxy.PhaseClosed)
	j.did("hold", "hold all", "stop", "close")
}

// A client that keeps a queue from being quiet is waited for so long and no longer.
func TestDepartureEmptiesForABoundedTime(t *testing.T) {
	j := newJourney(t, 10*time.Second)
	j.reached = 7
	j.at(0, false, emptying, proxy.PhaseLeaving)
	for after := 100 * ms; after < quietAtMost; after += 100 * ms {
		j.leaver.acceptedNow++
		j.at(after, false, emptying, proxy.PhaseLeaving)
	}
	j.leaver.acceptedNow++
	j.at(quietAtMost, true, closing, proxy.PhaseClosed)
}

// At the deadline sessions are cut; a queue that was being emptied is closed first.
func TestDepartureAtItsDeadline(t *testing.T) {
	t.Run("sessions run", func(t *testing.T) {
		j := newJourney(t, time.Second)
		j.reached, j.leaver.holdsNow = 7, true
		j.at(0, false, emptying, proxy.PhaseLeaving)
		j.at(200*ms, true, closing, proxy.PhaseClosed)
		j.told(8, true)
		j.at(210*ms, false, ending, proxy.PhaseClosed)
		j.at(1000*ms, false, ending, proxy.PhaseClosed)
		j.at(1001*ms, true, ending, proxy.PhaseCut)
		j.told(9, true)
		j.at(1010*ms, false, ending, proxy.PhaseCut) // told once
		j.leaver.holdsNow = false
		j.at(1020*ms, true, gone, proxy.PhaseCut)
	})
	t.Run("clients still come", func(t *testing.T) {
		j := newJourney(t, 50*ms)
		j.reached, j.leaver.holdsNow, j.leaver.waitingNow = 7, true, 1
		j.at(0, false, emptying, proxy.PhaseLeaving)
		j.at(51*ms, true, closing, proxy.PhaseClosed)
		j.told(8, true)
		j.at(60*ms, false, ending, proxy.PhaseClosed)
		j.at(70*ms, true, ending, proxy.PhaseCut)
	})
	t.Run("there is none", func(t *testing.T) {
		j := newJourney(t, 0)
		j.reached, j.leaver.holdsNow = 7, true
		j.at(0, false, emptying, proxy.PhaseLeaving)
		j.at(200*ms, true, closing, proxy.PhaseClosed)
		j.told(8, true)
		j.at(210*ms, false, ending, proxy.PhaseClosed)
		j.at(1000*time.Hour, false, ending, proxy.PhaseClosed)
	})
}

// After a second signal nothing is waited for, neither acceptors nor clients.
func TestDepartureInAHurry(t *testing.T) {
	j := newJourney(t, time.Hour)
	j.hurried, j.leaver.holdsNow, j.leaver.waitingNow = true, true, 5
	j.at(1*ms, false, emptying, proxy.PhaseLeaving)
	j.at(2*ms, true, closing, proxy.PhaseClosed)
	j.at(3*ms, false, closing, proxy.PhaseClosed) // but for the Plan that tells of it
	j.told(8, false)
	j.at(4*ms, false, ending, proxy.PhaseClosed)
	j.at(5*ms, true, ending, proxy.PhaseCut)
	j.did("hold", "hold all", "stop")
}

// A state that is stepped is another one: what shows the old one meanwhile sees no change.
func TestCopiedStateHasDeparturesOfItsOwn(t *testing.T) {
	now := time.Now()
	s := &service{state: &state{seats: seatsOf(0, 1), fronts: []*front{{}, {leaving: newDeparture(now, now)}}}}
	s.state.seats.leave(1, now)
	for _, d := range s.copyState().departures() {
		d.enter(ending, now)
	}
	for _, d := range s.state.departures() {
		if d.stage != announced {
			t.Error("the state in force has changed")
		}
	}
	if n := len(s.copyState().departures()); n != 2 {
		t.Errorf("%d departures, want 2", n)
	}
}
