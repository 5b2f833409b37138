package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A listener has any number of addresses: what is written with blanks between, or as a
// list, and each port of a range is one more.
//
//	bind = ["0.0.0.0:80", "[::]:80", "127.0.0.1:9000-9002"]
//
//	0.0.0.0:80   [::]:80 (IPv6 only)   127.0.0.1:9000   127.0.0.1:9001   127.0.0.1:9002
//
// A unix socket is an address, too, and its path has no blanks.

// Bind is one address of a listener.
type Bind struct {
	Address  string // IP:PORT, or :PORT for all addresses of both families, port 0 = any free one; or unix:PATH, unix:@NAME
	IPv6Only bool
}

// UnixPath is the path of the unix socket that d is; an @ begins the name of an abstract one.
func (d Bind) UnixPath() (path string, is bool) { return strings.CutPrefix(d.Address, UnixPrefix) }

// Meant is what the text means: :PORT is [::]:PORT.
func (d Bind) Meant() string {
	if _, is := d.UnixPath(); is {
		return d.Address
	}
	a, _ := parseAddress(d.Address) // it was read before
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	return a.String()
}

// Binds are the addresses of l, in the order of its text. [::] leaves IPv4 to 0.0.0.0 if
// that is there, too, with the same port.
func (l Listener) Binds() []Bind {
	all, _ := expandBinds(l.Bind)
	v4 := map[string]bool{} // ports
	for _, address := range all {
		if port, is := strings.CutPrefix(address, "0.0.0.0:"); is && port != "0" {
			v4[port] = true
		}
	}
	binds := make([]Bind, len(all))
	for i, address := range all {
		port, both := strings.CutPrefix(address, "[::]:")
		binds[i] = Bind{address, l.IPv6Only && !isIPv4(address) || both && v4[port]}
	}
	return binds
}

func isIPv4(address string) bool {
	a, err := parseAddress(address)
	return err == nil && a.Addr().Is4()
}

// bindList takes the addresses of a listener, and keeps them as one text.
var bindList = kind{
	must: `IP:PORT, :PORT, IP:LOW-HIGH, unix:/PATH or unix:@NAME, such as "127.0.0.1:8080", "[::1]:8080", ":8080", ":9000-9010" or "unix:/run/app.sock", or a list of them`,
	json: map[string]any{"anyOf": []any{
		map[string]any{"type": "string"},
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "minItems": 1},
	}},
	parse: func(raw any) (any, bool) {
		list, ok := words.parse(raw)
		if !ok {
			return nil, false
		}
		text := strings.Join(list.([]string), " ")
		_, err := expandBinds(text)
		return text, err == nil
	},
}

// words are texts without blanks; one that is no text is none.
var words = textList("", func(text string) bool { return text != "" && !strings.ContainsAny(text, " \t") })

// expandBinds gives each port of a range an address of its own.
func expandBinds(text string) (all []string, err error) {
	for _, word := range strings.Fields(text) {
		if path, is := strings.CutPrefix(word, UnixPrefix); is {
			if !unixPathOK(path) {
				return nil, fmt.Errorf("%q is no path of a unix socket", path)
			}
			all = append(all, word)
			continue
		}
		host, ports, err := net.SplitHostPort(word)
		low, high, isRange := strings.Cut(ports, "-")
		if err != nil || !isRange {
			if _, err := parseAddress(word); err != nil {
				return nil, err
			}
			all = append(all, word)
			continue
		}
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(high, 10, 16)
		switch {
		case err != nil:
			return nil, err
		case first == 0 || last < first:
			return nil, fmt.Errorf("ports %s are no range", ports)
		}
		for port := first; port <= last; port++ {
			all = append(all, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
		}
		if _, err := parseAddress(all[len(all)-1]); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no address")
	}
	return all, nil
}

// checkBinds reports what the addresses of one listener make impossible.
func (b *builder) checkBinds(l Listener) {
	at, seen := b.origin[pathOf("listener", l.Name)+".bind"], map[string]bool{}
	binds := l.Binds()
	for _, d := range binds {
		if a := d.Meant(); strings.HasSuffix(a, ":0") && seen[a] { // those with a port overlap, see checkOverlaps
			b.fault(at, "%s is there twice", d.Address)
			break
		} else {
			seen[a] = true
		}
	}
	if l.IPv6Only && len(binds) > 0 && !slices.ContainsFunc(binds, func(d Bind) bool { return d.IPv6Only }) {
		b.fault(b.origin[pathOf("listener", l.Name)+".ipv6_only"], "needs an IPv6 address to listen on, but bind is %q", l.Bind)
	}
}

// Addresses is how many addresses the listeners have together.
func (c Config) Addresses() (n int) {
	for _, l := range c.Listeners {
		n += len(l.Binds())
	}
	return n
}

// tooManyBinds is the listener that brings the addresses over what is possible, and to
// how many; 0 = none does.
func (c Config) tooManyBinds() (Listener, int) {
	n := 0
	for _, l := range c.Listeners {
		if n += len(l.Binds()); n > maxListeners {
			return l, n
		}
	}
	return Listener{}, 0
}
