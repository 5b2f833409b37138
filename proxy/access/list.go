package access

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

// ParsePrefix reads a prefix such as 10.0.0.0/8 or fd00::/8, or a single address.
// IPv4 in IPv6's clothes comes out as IPv4.
func ParsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which a client's address does not have", text)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is no prefix of one address family", text)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits behind its length; the prefix is %s", text, p.Masked())
	}
	return p, nil
}

// ParseList reads a file of prefixes: one a line, and behind a # what the reader should
// know. A file that is empty or does not end with the end of a line is taken for one that
// is being written. The error names the line.
func ParseList(text []byte) ([]netip.Prefix, error) {
	if len(text) == 0 {
		return nil, errors.New("is empty; if nobody is meant, write a line with a # only")
	}
	var list []netip.Prefix
	for n := 1; len(text) > 0; n++ {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		if !ended {
			return nil, fmt.Errorf("line %d: does not end, so the file may be written half only", n)
		}
		text = rest
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		p, err := ParsePrefix(string(line[:min(len(line), 80)]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, p)
	}
	return list, nil
}
