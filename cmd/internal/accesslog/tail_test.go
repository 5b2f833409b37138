package accesslog

import (
	"testing"

	"sluice/metrics"
	"sluice/metrics/journal"
)

// What went wrong is kept longer than what did not, and what was not kept is counted.
func TestTail(t *testing.T) {
	var tail Tail
	add := func(n int, reason metrics.Reason) {
		for range n {
			tail.add(&journal.Record{Kind: journal.KindClosed, Reason: reason})
		}
	}
	add(5, metrics.ReasonClientEOF)
	if all, last, _ := tail.after(0); len(all) != 0 || last != 0 {
		t.Errorf("it is off, and has %d", len(all))
	}
	tail.Follow(true)
	add(1, metrics.ReasonIdleTimeout)
	add(1000, metrics.ReasonClientEOF)
	tail.add(&journal.Record{Kind: journal.KindConnected})
	all, last, missed := tail.after(0)
	if len(all) != tailKeeps+1 || last != 1001 || missed != 0 || all[0].Reason != metrics.ReasonIdleTimeout || all[1].number != 1001-tailKeeps+1 {
		t.Errorf("%d records, last %d, missed %d", len(all), last, missed)
	}
	if all, last, missed := tail.after(1001); len(all) != 0 || last != 1001 || missed != 0 {
		t.Errorf("nothing new: %d records, last %d, missed %d", len(all), last, missed)
	}
	add(tailKeeps+10, metrics.ReasonBackendEOF)
	if all, _, missed := tail.after(1001); len(all) != tailKeeps || missed != 10 {
		t.Errorf("%d records, missed %d", len(all), missed)
	}
	if all, _, missed := tail.after(1 << 40); len(all) != tailKeeps+1 || missed != 0 {
		t.Errorf("for who saw another life: %d records, missed %d", len(all), missed)
	}
}
