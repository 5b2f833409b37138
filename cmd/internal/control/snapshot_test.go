package control

import (
	"log/slog"
	"slices"
	"testing"

	"sluice/cmd/internal/config"
	"sluice/metrics"
)

// A front that leaves at this moment is among those in force and among those that are
// gone. What it counted is shown once, whether another has its name or not.
func TestSnapshotShowsWhoLeavesOnce(t *testing.T) {
	l := config.DefaultListener("web")
	l.Bind = "127.0.0.1:0"
	open := func(index uint32) *front {
		f, err := openFront(l, l.Binds()[0], metrics.NewID(index, 1), []int{0}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.close)
		return f
	}
	later, earlier := open(0), open(1)
	earlier.leaving = &departure{stage: ending}
	for name, row := range map[string]struct {
		shown   []*front
		earlier []metrics.ID
	}{
		"with a successor": {[]*front{later, earlier, earlier}, []metrics.ID{earlier.id}},
		"alone":            {[]*front{earlier, earlier}, nil},
	} {
		var top metrics.Topology
		for _, f := range row.shown {
			(&service{}).show(&top, &state{}, f, f.leaving != nil)
		}
		if len(top.Listeners) != 1 || top.Listeners[0].ID != row.shown[0].id || !slices.Equal(top.Listeners[0].Earlier, row.earlier) {
			t.Errorf("%s: %+v", name, top.Listeners)
		}
	}
}
