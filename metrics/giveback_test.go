package metrics

import (
	"maps"
	"testing"
)

func TestGiveBack(t *testing.T) {
	b := newBoard(t)
	const dead, alive = 1, 0
	for _, a := range []int{dead, alive} {
		act(t, b, a)
	}
	lost := b.GiveBack(dead)
	if want := map[string]uint64{"web": 3}; !maps.Equal(lost, want) {
		t.Errorf("lost %v, want %v", lost, want)
	}
	for s, l := range b.Listeners() {
		given := l.Accepted.Load() + l.Taken.Load()
		found := uint64(l.Active.Load()) + l.HandedOff.Load() + total(l.Rejected[:]) + total(l.Closed[:])
		died := l.Closed[ReasonWorkerDied].Load()
		if s.Acceptor == dead {
			if given != found || died != lost[s.Name] || l.Active.Load() != 0 || l.HalfClosed.Load() != 0 || l.Waiting.Load() != 0 {
				t.Errorf("dead acceptor on %s: given %d, found %d, worker_died %d, active %d, half closed %d, waiting %d",
					s.Name, given, found, died, l.Active.Load(), l.HalfClosed.Load(), l.Waiting.Load())
			}
			if want := map[string]uint64{"web": 5}[s.Name]; l.Waited[WaitClosed].Load() != want {
				t.Errorf("dead acceptor on %s: %d waits closed, want %d", s.Name, l.Waited[WaitClosed].Load(), want)
			}
		} else if died != 0 || (s.Name == "web" && l.Active.Load() != 2) {
			t.Errorf("living acceptor on %s: worker_died %d, active %d", s.Name, died, l.Active.Load())
		}
	}
	held := map[int]int64{}
	for s, c := range b.Backends() {
		held[s.Acceptor] += c.Active.Load()
	}
	for s, c := range b.Acceptors() {
		held[s.Acceptor] += c.Sessions.Load() + c.PipesOpen.Load() + c.PipesInUse.Load() + c.SpillBytes.Load() +
			c.Accepting.Load() + c.ThreadID.Load() + c.PID.Load() + c.Heartbeat.Load() + c.CPU.Load()
		if c.Turns.Load() != 1000 {
			t.Errorf("acceptor %d: counter of turns became %d", s.Acceptor, c.Turns.Load())
		}
	}
	if held[dead] != 0 || held[alive] == 0 {
		t.Errorf("gauges of the dead sum to %d, of the living to %d", held[dead], held[alive])
	}
	if again := b.GiveBack(dead); len(again) != 0 {
		t.Errorf("a second time lost %v, want nothing", again)
	}
}

// act writes what an acceptor may leave behind when it is killed: on "web" it
// died between counting a connection and raising its gauge; "quiet" lost nothing.
func act(t *testing.T, b *Board, acceptor int) {
	t.Helper()
	web, err := b.Listener("web", acceptor)
	check(t, err)
	quiet, err := b.Listener("quiet", acceptor)
	check(t, err)
	backend, err := b.Backend("pool", "db:5432", acceptor)
	check(t, err)
	self, err := b.Acceptor(acceptor)
	check(t, err)

	web.Accepted.Add(10)
	web.Taken.Add(2)
	web.HandedOff.Add(1)
	web.Rejected[RejectMaxSessions].Add(1)
	web.Closed[ReasonClientEOF].Add(5)
	web.Closed[ReasonIdleTimeout].Add(2)
	web.Active.Store(2)
	web.HalfClosed.Store(1)
	web.Waiting.Store(2)
	web.Waited[WaitClosed].Add(3)
	quiet.Accepted.Add(4)
	quiet.Closed[ReasonBackendEOF].Add(4)
	backend.Active.Store(2)
	for i, g := range []*Gauge{
		&self.Sessions, &self.PipesOpen, &self.PipesInUse, &self.SpillBytes,
		&self.Accepting, &self.ThreadID, &self.PID, &self.Heartbeat, &self.CPU,
	} {
		g.Store(int64(i + 1))
	}
	self.Turns.Add(1000)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
