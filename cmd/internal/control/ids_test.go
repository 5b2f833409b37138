package control

import (
	"math/rand/v2"
	"testing"

	"sluice/metrics"
)

func mint(t *testing.T, m *ids[string], name string, index uint32, generation uint64, isNew bool) metrics.ID {
	t.Helper()
	id, got, err := m.mint(name)
	if err != nil || id != metrics.NewID(index, generation) || got != isNew {
		t.Fatalf("%s: %d of generation %d, new %v, %v; want %d of %d, new %v", name, id.Index(), id.Generation(), got, err, index, generation, isNew)
	}
	return id
}

func nobody(metrics.ID) bool { return false }

func TestIDsAreTheLowestThatAreFree(t *testing.T) {
	m := newIDs[string]("things", 10)
	for i, name := range []string{"a", "b", "c", "d"} {
		mint(t, m, name, uint32(i), 1, true)
	}
	mint(t, m, "b", 1, 1, false)
	for _, name := range []string{"d", "b", "a"} { // in another order than they are given again
		m.drop(name, 2)
	}
	m.forget(2, nobody)
	mint(t, m, "e", 0, 2, true)
	mint(t, m, "f", 1, 2, true)
	mint(t, m, "g", 3, 2, true)
	mint(t, m, "h", 4, 1, true)
	m.drop("e", 3)
	m.forget(3, nobody)
	mint(t, m, "e", 0, 3, true)
}

// What comes back before it was forgotten is the same thing.
func TestIDComesBack(t *testing.T) {
	m := newIDs[string]("things", 10)
	mint(t, m, "a", 0, 1, true)
	m.drop("a", 5)
	m.forget(4, nobody)
	mint(t, m, "a", 0, 1, false)
	m.forget(9, nobody) // it is in use again
	mint(t, m, "b", 1, 1, true)
}

func TestIDIsFreeWhenNobodyKnowsIt(t *testing.T) {
	m := newIDs[string]("things", 2)
	a := mint(t, m, "a", 0, 1, true)
	mint(t, m, "b", 1, 1, true)
	m.drop("a", 7)
	held := true
	isHeld := func(id metrics.ID) bool { return held && id == a }
	for _, row := range []struct {
		why     string
		reached uint64
		held    bool
		free    bool
	}{
		{"an acceptor runs the Plan before", 6, false, false},
		{"a session has it", 7, true, false},
		{"both", 6, true, false},
		{"nobody", 7, false, true},
	} {
		held = row.held
		m.forget(row.reached, isHeld)
		_, _, err := m.mint("c")
		if row.free != (err == nil) {
			t.Errorf("%s: %v", row.why, err)
		}
	}
	want := "there can be 2 things at a time, those that sessions still hold included"
	if _, _, err := m.mint("d"); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

// Over a service's life names come and go; numbers stay as few as there were at a time.
func TestIDsStayTogether(t *testing.T) {
	const atATime = 50
	m, r := newIDs[int]("things", 1000), rand.New(rand.NewPCG(1, 2))
	var live []int
	last := map[uint32]uint64{} // generation by index
	for name := range 100_000 {
		id, isNew, err := m.mint(name)
		if err != nil || !isNew || id.Index() >= atATime {
			t.Fatalf("name %d: index %d, new %v, %v", name, id.Index(), isNew, err)
		}
		if id.Generation() <= last[id.Index()] {
			t.Fatalf("generation %d of %d again", id.Generation(), id.Index())
		}
		last[id.Index()] = id.Generation()
		live = append(live, name)
		if len(live) == atATime {
			i := r.IntN(len(live))
			m.drop(live[i], uint64(name))
			live = append(live[:i], live[i+1:]...)
			m.forget(uint64(name), nobody)
		}
	}
	if len(m.generations) != atATime || len(m.dropped) != 0 {
		t.Errorf("%d numbers in use, %d names not forgotten", len(m.generations), len(m.dropped))
	}
}
