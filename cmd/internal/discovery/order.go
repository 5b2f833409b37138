package discovery

import (
	"cmp"
	"net"
	"net/netip"
)

// ranked is an address and what the order of RFC 6724 goes by, as far as it says
// something of an address and this machine and not of the next route: rules 1, 2, 5, 6, 8.
// Rule 9 (longest prefix) is left out, for it makes all clients prefer the same server of
// several that are as good.
type ranked struct {
	addr       netip.Addr
	noSource   bool // there is no way there
	mismatched bool // the label, or the scope, of the source address is another
	precedence int  // negated, so that less comes first
	scope      int
}

// rank looks for the source address that the kernel would take, which sends nothing.
func rank(a netip.Addr) ranked {
	r := ranked{addr: a, precedence: -precedenceOf(a), scope: scopeOf(a)}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		r.noSource = true
		return r
	}
	defer conn.Close()
	source := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	r.mismatched = labelOf(source) != labelOf(a) || scopeOf(source) != r.scope
	return r
}

// compare puts the better address first, and equals in the order of their numbers: an
// answer that only turns its addresses changes nothing.
func (r ranked) compare(s ranked) int {
	return cmp.Or(compareBool(r.noSource, s.noSource), compareBool(r.mismatched, s.mismatched),
		cmp.Compare(r.precedence, s.precedence), cmp.Compare(r.scope, s.scope), r.addr.Compare(s.addr))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// policy is the table of RFC 6724, 2.1.
var policy = []struct {
	prefix            netip.Prefix
	precedence, label int
}{ // the longest prefixes first
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("0.0.0.0/0"), 35, 4},
	{netip.MustParsePrefix("::/0"), 40, 1},
}

func precedenceOf(a netip.Addr) int { return policy[policyOf(a)].precedence }
func labelOf(a netip.Addr) int      { return policy[policyOf(a)].label }

func policyOf(a netip.Addr) int {
	a = a.WithZone("")
	for i, p := range policy {
		if p.prefix.Contains(a) {
			return i
		}
	}
	return len(policy) - 1
}

// scopeOf is that of RFC 4007: less is nearer.
func scopeOf(a netip.Addr) int {
	switch {
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return 0x2
	case a.Is6() && policyOf(a) == 4: // fec0::/10
		return 0x5
	}
	return 0xe
}
