package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sluice/metrics"
	"sluice/proxy/pool"
)

// largePlan has many listeners in front of one pool of many targets.
func largePlan(listeners, targets int, generation uint64) (*Plan, View) {
	p := &Plan{Generation: generation, Seats: []Seat{{}}, Pools: []pool.Pool{{ID: appID, Name: "app", ConnectTimeout: time.Second}}}
	v := View{Own: Sockets{Listeners: map[metrics.ID]int{}, Mail: -1}}
	for i := range targets {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 80)
		p.Pools[0].Targets = append(p.Pools[0].Targets, targetAt(uint32(i), addr))
	}
	for i := range listeners {
		id := metrics.NewID(uint32(i), 1)
		p.Listeners = append(p.Listeners, Listener{ID: id, Name: fmt.Sprint("l", i), Pool: appID})
		v.Own.Listeners[id] = fakeListener + i
	}
	return p, v
}

// A loop goes over to a Plan within 2 ms, however large: with a thousand listeners, and
// with ten thousand targets of which one is new. The best of some tries counts, for the
// machine has other things to do.
func TestCommitIsShort(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time; -short is the race pass")
	}
	for name, size := range map[string][2]int{"1,000 listeners": {1000, 10}, "10,000 targets": {10, 10_000}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			best := time.Hour
			for try := range 10 {
				p, v := largePlan(size[0], size[1]+try%2, uint64(try)+10)
				b, err := w.a.Bind(p, v)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				w.a.commit(b)
				if took := time.Since(begin); try > 0 {
					best = min(best, took)
				}
			}
			t.Logf("%v", best)
			if best > 2*time.Millisecond {
				t.Errorf("took %v", best)
			}
		})
	}
}
