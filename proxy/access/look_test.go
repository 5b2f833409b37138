package access

import (
	"net/netip"
	"testing"
	"time"
)

// Look finds what Enter and Spend would say, and takes nothing.
func TestLook(t *testing.T) {
	b := newBoard(t)
	l := Limit{IPv4: 24, IPv6: 64, Sessions: 5, Rate: Rate{Every: time.Second, Burst: 2}}
	s := NewSources(b, 1)
	look := func(sessions int, wait time.Duration) {
		t.Helper()
		for range 2 {
			if n, w := s.Look(web, addr(1), &l, 1, time.Minute); n != sessions || w != wait {
				t.Fatalf("%d sessions and %v, want %d and %v", n, w, sessions, wait)
			}
		}
	}
	look(0, 0)
	for i, wait := range []time.Duration{0, time.Second, 2 * time.Second} {
		if _, _, v := s.Enter(web, addr(1), &l, 1, time.Minute); v != Entered {
			t.Fatal(v)
		}
		look(i+1, wait)
	}
	rate := &b.Rates()[0]
	for range 3 {
		want := l.Rate.Wait(rate, 7, time.Minute)
		if got, ok := Spend(rate, l.Rate, 7, time.Minute); !ok || got != want {
			t.Errorf("%v, looked at it was %v", got, want)
		}
	}
	if wait := (Rate{}).Wait(rate, 7, 0); wait != 0 {
		t.Errorf("%v without a rate", wait)
	}
}

func TestCovering(t *testing.T) {
	s := New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}, false)
	for client, want := range map[string]string{"10.2.0.1": "10.0.0.0/8", "10.1.0.1": "10.1.0.0/16", "2001:db8::1": "2001:db8::/32", "192.0.2.1": ""} {
		a := netip.MustParseAddr(client)
		p, admitted := s.Covering(a)
		if got := p.String(); p.IsValid() != (want != "") || p.IsValid() && got != want || admitted != s.Admits(a) {
			t.Errorf("%s: %v, %v", client, p, admitted)
		}
	}
}
