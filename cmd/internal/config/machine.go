package config

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sluice/listener/netns"
)

// addressesHere are the addresses that this machine has now; ok is false where that can't be told.
func addressesHere() (all []netip.Addr, ok bool) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, false
	}
	for _, n := range nets {
		if ipnet, is := n.(*net.IPNet); is {
			if ip, valid := netip.AddrFromSlice(ipnet.IP); valid {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all, true
}

// checkLoops reports backends that are a listener of this configuration, as far as their
// text tells. What names stand for is seen
// as it runs only. here is asked where a listener takes all of the machine's addresses.
func (b *builder) checkLoops(here func() ([]netip.Addr, bool)) {
	byPort, byPath := map[uint16][]claim{}, map[string]claim{}
	for _, l := range b.config.Listeners {
		for _, d := range l.Binds() {
			if path, is := d.UnixPath(); is {
				byPath[filepath.Clean(path)] = claim{key: pathOf("listener", l.Name) + ".bind", text: d.Address}
			}
			if c, ok := newClaim(pathOf("listener", l.Name)+".bind", d.Address, d.IPv6Only); ok {
				c.netns = l.NetnsPath()
				byPort[c.port] = append(byPort[c.port], c)
			}
		}
	}
	if len(byPort)+len(byPath) == 0 {
		return
	}
	report := func(p Pool, backend Backend, c claim) {
		b.fault(b.origin[pathOf("pool", p.Name)+".backends"], "%s is this sluice itself, which listens there by %s = %q", backend.Address, c.key, c.text)
	}
	own := sync.OnceValue(func() []netip.Addr { all, _ := here(); return all })
	for _, p := range b.config.Pools {
		isOwn := func(ip netip.Addr) bool { return p.Netns == "" && slices.Contains(own(), ip) } // what another namespace has is not looked at
		for _, backend := range p.Backends {
			if path, is := backend.UnixPath(); is {
				if c, own := byPath[filepath.Clean(path)]; own && (path[0] != '@' || p.Netns == "") {
					report(p, backend, c)
				}
				continue
			}
			host, port, err := splitPort(backend.Address)
			if err != nil || len(byPort[port]) == 0 {
				continue
			}
			addresses := meantBy(host, p.Source)
			i := slices.IndexFunc(byPort[port], func(c claim) bool {
				return c.netns == p.NetnsPath() && slices.ContainsFunc(addresses, func(ip netip.Addr) bool { return c.takes(ip, isOwn) })
			})
			if i >= 0 {
				report(p, backend, byPort[port][i])
			}
		}
	}
}

// meantBy are the addresses of a host that need no looking up: a connect to the
// unspecified one goes to the source, or to the loopback.
func meantBy(host string, sources []netip.Addr) []netip.Addr {
	if name := strings.TrimSuffix(strings.ToLower(host), "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	ip, err := parseIP(host)
	if err != nil {
		return nil
	}
	own := slices.DeleteFunc(slices.Clone(sources), func(s netip.Addr) bool { return s.Is4() != ip.Is4() })
	switch {
	case !ip.IsUnspecified():
		return []netip.Addr{ip}
	case len(own) > 0:
		return own
	case ip.Is4():
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return []netip.Addr{netip.IPv6Loopback()}
}

// takes says whether a connection to ip comes to the listener. A link-local address with
// a zone may be another machine's as well as this one's, so only its very text tells.
func (c claim) takes(ip netip.Addr, isOwn func(netip.Addr) bool) bool {
	switch {
	case !(ip.Is4() && c.v4 || ip.Is6() && c.v6):
		return false
	case c.addr.IsValid():
		return c.addr == ip
	}
	return ip.IsLoopback() || isOwn(ip)
}

// Doubts are what a configuration asks for and this machine does not have as it is now.
// They are no faults: an address or an interface may come later, and a file may be
// checked on another machine than the one it is for.
func (c Config) Doubts() (all []string) {
	all = append(all, c.Admin.doubts()...)
	here, ok := addressesHere()
	if !ok {
		return all
	}
	for _, p := range c.Pools {
		// One that can't be entered has no doubts of its own: see control.Refusals.
		_ = netns.Within(p.NetnsPath(), func() error {
			has, ok := here, true
			if p.Netns != "" {
				has, ok = addressesHere()
			}
			if ok {
				all = append(all, p.doubts(has)...)
			}
			return nil
		})
	}
	return all
}

// doubts are those about p where its backends are connected to from, which has the addresses here.
func (p Pool) doubts(here []netip.Addr) (all []string) {
	path := pathOf("pool", p.Name)
	if argv := p.Health.Command; len(argv) > 0 && p.Health.Check == CheckCommand {
		if _, err := exec.LookPath(argv[0]); err != nil {
			all = append(all, fmt.Sprintf("%s.health.command: %v: until it can be run, no backend of this pool is checked", path, err))
		}
	}
	all = append(all, sourceDoubts(path, p.Source, here)...)
	for _, b := range p.Backends {
		if file, is := b.UnixPath(); is && socketMissing(file) {
			all = append(all, fmt.Sprintf("%s.backends: there is no unix socket %s: until there is, no session gets there", path, file))
		}
		host, _, err := splitPort(b.Address)
		if err != nil {
			continue
		}
		if ip, err := parseIP(host); err == nil {
			if doubt := zoneDoubt(ip); doubt != "" {
				all = append(all, fmt.Sprintf("%s.backends: %s: %s", path, b.Address, doubt))
			}
		}
	}
	return all
}

// hasAddress says whether ip is one of here; every machine has all of 127.0.0.0/8.
func hasAddress(here []netip.Addr, ip netip.Addr) bool {
	if ip.Is4() && ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	return slices.Contains(here, ip.WithZone(""))
}

// zoneDoubt says what is wrong with the zone of a link-local address; "" = nothing.
func zoneDoubt(ip netip.Addr) string {
	zone := ip.Zone()
	if zone == "" {
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			return fmt.Sprintf("a link-local address needs its interface, such as %s%%eth0", ip)
		}
		return ""
	}
	if n, err := strconv.Atoi(zone); err == nil {
		if _, err := net.InterfaceByIndex(n); err != nil {
			return fmt.Sprintf("this machine has no interface number %d", n)
		}
		return ""
	}
	if _, err := net.InterfaceByName(zone); err != nil {
		return fmt.Sprintf("this machine has no interface %q", zone)
	}
	return ""
}
