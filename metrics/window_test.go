package metrics

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	b := newBoard(t)
	b.OpenListener(webID)
	web := b.Listener(0, webID)
	web.Accepted.Add(1000) // before the first look
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	top := Topology{Listeners: []Listener{{ID: webID, Name: "web"}}, Acceptors: []Acceptor{{Number: 0}, {Number: 1}}}

	var w Window
	read := func(after time.Duration) ListenerBalance {
		return TakeSnapshot(b, &w, top, begin.Add(after)).Listeners[0].Balance
	}
	if got := read(0); got.WindowSeconds != 0 || got.Accepts.Total != 0 {
		t.Errorf("before the first sample: %+v, want an empty window", got)
	}
	// From here on one accept a second on acceptor 0, sampled each second, and
	// after two minutes as many on acceptor 1, which comes only then.
	second := 0
	accept := func(seconds int, cells ...*ListenerCells) {
		for range seconds {
			w.Sample(b, []ID{webID}, []int{0, 1}, begin.Add(time.Duration(second)*time.Second))
			for _, c := range cells {
				c.Accepted.Add(1)
			}
			second++
		}
	}
	now := func() time.Duration { return time.Duration(second) * time.Second }

	accept(10, web)
	if got := read(now()); got.WindowSeconds != 10 || got.Accepts.Total != 10 || got.Accepts.Jain != .5 {
		t.Errorf("while it fills: %+v, want 10 accepts in 10 s, all on one of two", got)
	}
	accept(110, web)
	if got := read(now()); got.WindowSeconds != 60 || got.Accepts.Total != 60 {
		t.Errorf("full: %+v, want 60 accepts in 60 s", got)
	}
	accept(60, web, b.Listener(1, webID))
	if got := read(now()); got.Accepts.Total != 120 || got.Accepts.Jain != 1 {
		t.Errorf("with a new acceptor: %+v, want 120 accepts, even", got)
	}
	if got := read(now() + 30*time.Second); got.WindowSeconds != 60 || got.Accepts.Total != 60 {
		t.Errorf("30 s after the last sample: %+v, want the 60 accepts of half a minute within 60 s", got)
	}
	if n := len(w.samples); n > 61 {
		t.Errorf("%d samples kept", n)
	}
	if got := read(now() + time.Hour); got.Accepts.Total != 2 {
		t.Errorf("an hour after the last sample: %+v, want what came since: 2 accepts", got)
	}
}

// A window that begins before the first listener has all accepts.
func TestWindowFromTheFirstAcceptOn(t *testing.T) {
	b := newBoard(t)
	var w Window
	w.Sample(b, nil, nil, fixtureTime)
	b.OpenListener(webID)
	b.Listener(0, webID).Accepted.Add(48)
	b.Listener(1, webID).Accepted.Add(16)
	top := Topology{Listeners: []Listener{{ID: webID, Name: "web"}}, Acceptors: []Acceptor{{Number: 0}, {Number: 1}}}
	for after := range 3 {
		now := fixtureTime.Add(time.Duration(after) * time.Second)
		if got := TakeSnapshot(b, &w, top, now).Listeners[0].Balance.Accepts; got.Total != 64 || got.MaxOverMean != 1.5 {
			t.Errorf("after %d s: %+v, want 64 accepts, 48 of them on one of two", after, got)
		}
		w.Sample(b, []ID{webID}, []int{0, 1}, now)
	}
}

// What has the number of something else counts from zero, although it soon counts
// higher than that did.
func TestWindowKnowsWhoIsWho(t *testing.T) {
	b := newBoard(t)
	b.OpenListener(webID)
	top := Topology{Listeners: []Listener{{ID: webID, Name: "web"}}, Acceptors: []Acceptor{{Number: 0}, {Number: 5}}}
	b.Listener(0, webID).Accepted.Add(10)
	b.Listener(5, webID).Accepted.Add(10)
	var w Window
	w.Sample(b, []ID{quietID, webID}, []int{5, 0}, fixtureTime)
	accepts := func() []float64 {
		shares := TakeSnapshot(b, &w, top, fixtureTime.Add(time.Second)).Listeners[0].Balance.Accepts
		return []float64{shares.Shares[0] * shares.Total, shares.Shares[1] * shares.Total}
	}
	b.Listener(0, webID).Accepted.Add(1)
	b.Listener(5, webID).Accepted.Add(3)
	if got := accepts(); got[0] != 1 || got[1] != 3 {
		t.Errorf("%v accepted, want 1 and 3", got)
	}
	b.Retire(5)
	b.Listener(5, webID).Accepted.Add(12)
	if got := accepts(); got[0] != 1 || got[1] != 12 {
		t.Errorf("with another acceptor on seat 5, %v accepted, want 1 and 12", got)
	}
	top.Listeners[0].ID = NewID(uint32(webID.Index()), 2)
	b.OpenListener(top.Listeners[0].ID)
	b.Listener(0, webID).Accepted.Add(11)
	b.Listener(5, webID).Accepted.Add(11)
	if got := accepts(); got[0] != 11 || got[1] != 11 {
		t.Errorf("of another listener with the same index, %v accepted, want 11 and 11", got)
	}
}
