package control

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"sluice/cmd/internal/config"
	"sluice/proxy"
	"sluice/proxy/pool"
)

func TestPlanSaysWhatTheConfigSays(t *testing.T) {
	addrs := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")}
	c := config.Config{
		Limits: config.Limits{MaxSessions: 500},
		Listeners: []config.Listener{{
			Name: "web", Bind: ":80", Pool: "apps", Relay: config.RelayCopy, MaxSessions: 50,
			WaitForBackend: 6 * time.Second, MaxWaiting: 7,
			FirstByteTimeout: 1 * time.Second, IdleTimeout: 2 * time.Second, HalfClosedTimeout: 3 * time.Second,
			MaxDuration: 4 * time.Second, MaxDurationJitter: 0.5,
		}},
		Pools: []config.Pool{{
			Name: "apps", Pick: config.PickLeastSessions, ConnectTimeout: 5 * time.Second, Retries: 3, Source: netip.MustParseAddr("10.0.0.9"),
			Backends: []config.Backend{{Address: "app:80", Weight: 4}, {Address: "lost:80", Weight: 1, Backup: true}},
		}},
	}
	want := &proxy.Plan{
		Generation: 3, MaxSessions: 500,
		Listeners: []proxy.Listener{{
			Name: "web", Pool: "apps", Relay: proxy.RelayCopy, MaxSessions: 50,
			WaitForBackend: 6 * time.Second, MaxWaiting: 7,
			FirstByteTimeout: 1 * time.Second, IdleTimeout: 2 * time.Second, HalfClosedTimeout: 3 * time.Second,
			MaxDuration: 4 * time.Second, MaxDurationJitter: 0.5,
		}},
		Pools: []pool.Pool{{
			Name: "apps", Pick: pool.LeastSessions, ConnectTimeout: 5 * time.Second, Retries: 3, Source: netip.MustParseAddr("10.0.0.9"),
			Backends: []pool.Backend{
				{Name: "app:80", Addrs: addrs, Weight: 4},
				{Name: "lost:80", Weight: 1, Backup: true}, // its name did not resolve: it has no address
			},
		}},
	}
	if got := planOf(c, 3, map[string][]netip.AddrPort{"app:80": addrs}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Every word that a configuration may hold has its number: an unknown one would
// silently become the first.
func TestPlanKnowsEveryWord(t *testing.T) {
	relays := map[string]proxy.Relay{"auto": proxy.RelayAuto, "splice": proxy.RelaySplice, "copy": proxy.RelayCopy}
	policies := map[string]pool.Policy{"round_robin": pool.RoundRobin, "least_sessions": pool.LeastSessions, "source_hash": pool.SourceHash}
	for word, want := range relays {
		plan := planOf(config.Config{Listeners: []config.Listener{{Relay: word}}}, 1, nil)
		if got := plan.Listeners[0].Relay; got != want {
			t.Errorf("relay %q: %v, want %v", word, got, want)
		}
	}
	for word, want := range policies {
		plan := planOf(config.Config{Pools: []config.Pool{{Pick: word}}}, 1, nil)
		if got := plan.Pools[0].Pick; got != want {
			t.Errorf("pick %q: %v, want %v", word, got, want)
		}
	}
}
