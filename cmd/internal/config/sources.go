package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PortRange is a range of ports, both ends included; the zero PortRange is none.
type PortRange struct{ Low, High uint16 }

func (r PortRange) String() string {
	if r.High == 0 {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

var sourceAddresses = kind{
	must: `an IP address of this machine, such as "10.0.0.1", a list of them, or ""`,
	json: map[string]any{"anyOf": []any{
		map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
	}},
	parse: func(raw any) (any, bool) {
		list, ok := textList("", func(text string) bool { _, err := parseIP(text); return err == nil }).parse(raw)
		if !ok {
			return nil, false
		}
		var all []netip.Addr
		for _, text := range list.([]string) {
			ip, _ := parseIP(text)
			if slices.Contains(all, ip) {
				return nil, false
			}
			all = append(all, ip)
		}
		return all, true
	},
}

// minSourcePort keeps clear of ports that take a privilege.
const minSourcePort = 1024

var sourcePorts = kind{
	must: `two ports such as "10000-60000", from 1024 to 65535, or ""`,
	json: map[string]any{"type": "string", "pattern": "^([0-9]+-[0-9]+)?$"},
	parse: onText(func(text string) (PortRange, error) {
		if text == "" {
			return PortRange{}, nil
		}
		low, high, _ := strings.Cut(text, "-")
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return PortRange{}, err
		}
		last, err := strconv.ParseUint(high, 10, 16)
		if err == nil && (first < minSourcePort || last < first) {
			err = strconv.ErrRange
		}
		return PortRange{uint16(first), uint16(last)}, err
	}),
}

// checkSource reports a pool of which no backend can be reached from its source
// addresses, and ports without an address.
func (b *builder) checkSource(p Pool) {
	if p.SourcePorts.High > 0 && len(p.Source) == 0 {
		b.fault(b.origin[pathOf("pool", p.Name)+".source_ports"], `needs source, such as source = "10.0.0.1": without it the kernel chooses both`)
	}
	if p.Transparent && len(p.Source) > 0 {
		b.fault(b.origin[pathOf("pool", p.Name)+".transparent"], "goes without source: connections come either from the client's address or from one of these")
	}
	if len(p.Source) == 0 || len(p.Backends) == 0 {
		return
	}
	for _, backend := range p.Backends {
		_, isUnix := backend.UnixPath()
		if a, err := netip.ParseAddrPort(backend.Address); isUnix || err != nil || p.Reaches(a) {
			return
		}
	}
	texts := plain(&p.Source)
	b.fault(b.origin[pathOf("pool", p.Name)+".source"], "%s reaches no backend of the pool: all are of the other address family", texts)
}

// Reaches says whether connections from the pool's sources can go to a: no address is
// reached from one of the other family. A unix socket (pool.UnixAddr) has no source.
func (p Pool) Reaches(a netip.AddrPort) bool {
	return len(p.Source) == 0 || strings.HasPrefix(a.Addr().Zone(), UnixPrefix) ||
		slices.ContainsFunc(p.Source, func(s netip.Addr) bool { return s.Is4() == a.Addr().Unmap().Is4() })
}

// sourceDoubts are those about the sources of the pool at path.
func sourceDoubts(path string, sources, here []netip.Addr) (all []string) {
	for _, s := range sources {
		switch missing := !hasAddress(here, s); {
		case missing && len(sources) == 1:
			all = append(all, fmt.Sprintf("%s.source: %s is no address of this machine: until it is, no session of this pool gets a backend", path, s))
		case missing:
			all = append(all, fmt.Sprintf("%s.source: %s is no address of this machine: until it is, the others serve", path, s))
		}
		if doubt := zoneDoubt(s); doubt != "" {
			all = append(all, path+".source: "+doubt)
		}
	}
	return all
}
