package proxy

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"sluice/metrics"
	"sluice/proxy/preamble"
)

func TestRoutes(t *testing.T) {
	id := func(i uint32) metrics.ID { return metrics.NewID(i, 1) }
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	r := newRouter([]Route{
		{Pool: id(1), SNI: []string{"*.example.com"}},
		{Pool: id(2), SNI: []string{"www.example.com"}},
		{Pool: id(3), SNI: []string{"*.b.example.com"}},
		{Pool: id(4), SNI: []string{"www.example.com"}, ALPN: []string{"h2", "h3"}},
		{Pool: id(5), SNI: []string{"www.example.com"}, Source: prefixes("10.0.0.0/8", "2001:db8::/32")},
		{Pool: id(6), SNI: []string{"www.example.com"}, Source: prefixes("10.1.0.0/16")},
		{Pool: id(7), ALPN: []string{"postgresql"}},
		{Pool: id(8), Source: prefixes("192.0.2.0/24")},
	})
	for _, c := range []struct {
		name, alpn, source string
		want               uint32
	}{
		{"www.example.com", "", "198.51.100.1", 2},
		{"WWW.Example.COM", "", "198.51.100.1", 2},
		{"www.example.com", "h2", "198.51.100.1", 4},
		{"www.example.com", "h2", "10.1.1.1", 4},
		{"www.example.com", "http/1.1", "10.1.1.1", 6},
		{"www.example.com", "", "10.2.1.1", 5},
		{"www.example.com", "", "2001:db8::1", 5},
		{"x.example.com", "", "198.51.100.1", 1},
		{"x.y.example.com", "", "198.51.100.1", 1},
		{"x.b.example.com", "", "198.51.100.1", 3},
		{"b.example.com", "", "198.51.100.1", 1},
		{"example.com", "", "198.51.100.1", 0},
		{"notexample.com", "", "198.51.100.1", 0},
		{"example.org", "postgresql", "198.51.100.1", 7},
		{"", "postgresql", "198.51.100.1", 7},
		{"", "", "192.0.2.5", 8},
		{"", "", "198.51.100.1", 0},
		{"com", "", "198.51.100.1", 0},
	} {
		config := &tls.Config{ServerName: c.name}
		if c.alpn != "" {
			config.NextProtos = []string{c.alpn}
		}
		h, need, err := preamble.ParseHello(helloFor(t, config), nil)
		if need != 0 || err != nil {
			t.Fatal(need, err)
		}
		want := metrics.ID(0)
		if c.want > 0 {
			want = id(c.want)
		}
		source := netip.MustParseAddr(c.source)
		var got metrics.ID
		if to := r.find(&h, source); to != nil {
			got = to.Pool
		}
		if got != want {
			t.Errorf("%q, %q, %s: pool %v, want %v", c.name, c.alpn, c.source, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { r.find(&h, source) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
