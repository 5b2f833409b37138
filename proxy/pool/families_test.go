package pool

import (
	"net/netip"
	"slices"
	"testing"

	"sluice/metrics"
)

var clientOf4, clientOf6 = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")

// A transparent pool gives each client a target of its own family, whatever the policy says
// and whichever have failed, and takes each family's turns by themselves.
func TestFamilies(t *testing.T) {
	for pick := RoundRobin; pick <= Fastest; pick++ {
		p := Pool{Pick: pick, Transparent: true, ConnectTimeout: 1}
		for i, addr := range []string{"192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.2:80", "[::ffff:192.0.2.3]:80", "[2001:db8::2]:80"} {
			p.Targets = append(p.Targets, Target{ID: metrics.NewID(uint32(i), 1), Addr: netip.MustParseAddrPort(addr), Weight: 1})
		}
		p.Targets = append(p.Targets, Target{ID: metrics.NewID(5, 1), Addr: UnixAddr("/run/app"), Weight: 1, Backup: true})
		clock := int64(1)
		s := State{Held: make([]metrics.Gauge, 6), Weights: make([]metrics.Gauge, 6), Weighed: new(metrics.Counter), Failing: make([]metrics.Failing, 6), Speeds: make([]metrics.Speed, 6), Clock: &clock}
		for i := range s.Weights {
			s.Weights[i].Store(WeightScale)
		}
		k := NewPicker(p.Prepare(), 0, s)
		for client, want := range map[netip.Addr][]int{clientOf4: {0, 2, 3, 5}, clientOf6: {1, 4, 5}, {}: {0, 1, 2, 3, 4, 5}} {
			var got []int
			var tried []metrics.ID
			for i := k.Pick(tried, client); i >= 0; i = k.Pick(tried, client) {
				got, tried = append(got, i), append(tried, p.Targets[i].ID)
			}
			if got[len(got)-1] != 5 {
				t.Errorf("policy %d: client %v: the backup does not come last in %v", pick, client, got)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("policy %d: client %v may have %v, want %v", pick, client, got, want)
			}
			if ways, _ := k.Foresee(client, 10); pick != Random2 && pick != Fastest && len(ways) != len(want) {
				t.Errorf("policy %d: client %v: foreseen are %v", pick, client, ways)
			}
		}
		if pick != RoundRobin {
			continue
		}
		var taken []int
		for range 3 { // each by another picker, which goes on where the last one stood
			next := NewPicker(p.Prepare(), 0, s)
			if len(taken) > 0 {
				next.Adopt(k)
			}
			k = next
			taken = append(taken, k.Pick(nil, clientOf4))
			k.Pick(nil, clientOf6)
		}
		if slices.Sort(taken); !slices.Equal(taken, []int{0, 2, 3}) {
			t.Errorf("three turns are those of %v", taken)
		}
	}
}

// A pool that becomes transparent is prepared anew, and no client of the other family is
// counted as one that waits for a place.
func TestFamiliesAreOfTransparentPools(t *testing.T) {
	p := Pool{Targets: []Target{{ID: metrics.NewID(0, 1), Addr: netip.MustParseAddrPort("192.0.2.1:80"), Weight: 1, MaxSessions: 1}}}
	q := p
	q.Transparent = true
	if p.Prepare().Same(&q) || !q.Reaches(clientOf4, &q.Targets[0]) || q.Reaches(clientOf6, &q.Targets[0]) || !p.Reaches(clientOf6, &p.Targets[0]) {
		t.Error("who reaches what is not as it should be")
	}
	s := State{Held: make([]metrics.Gauge, 1), Weights: make([]metrics.Gauge, 1), Weighed: new(metrics.Counter), Failing: make([]metrics.Failing, 1), Limits: make([]metrics.Gauge, 1)}
	s.Weights[0].Store(WeightScale)
	s.Held[0].Store(1)
	s.Limits[0].Store(int64(metrics.NewLimit(1, 1)))
	k := NewPicker(q.Prepare(), 0, s)
	if got := [2]int{k.Pick(nil, clientOf4), k.Pick(nil, clientOf6)}; got != [2]int{Full, -1} {
		t.Errorf("picked %v, want full and none", got)
	}
}
