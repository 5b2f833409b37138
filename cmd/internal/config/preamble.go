package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/proxy/access"
)

// Route leads those sessions of a listener to a pool of their own that match all it names.
type Route struct {
	Name   string
	Pool   string   // name of one of the Pools
	SNI    []string // host names of TLS clients, in lower case, or *.example.com
	ALPN   []string // protocols, one of which the client offers
	Source []string // addresses and prefixes
}

// On is what it goes by, in a few words.
func (r Route) On() string {
	var on []string
	for _, part := range []struct {
		key  string
		list []string
	}{{"sni", r.SNI}, {"alpn", r.ALPN}, {"source", r.Source}} {
		if len(part.list) > 0 {
			on = append(on, part.key+" "+strings.Join(part.list, " "))
		}
	}
	return strings.Join(on, ", ")
}

// String is the route in a few words.
func (r Route) String() string { return fmt.Sprintf("%s -> pool %s", r.On(), r.Pool) }

const maxPreamble = time.Hour

// Prefixes are those of a list that was read.
func Prefixes(list []string) (all []netip.Prefix) {
	for _, text := range list {
		if p, err := access.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

var sniList = lowered(textList(`a list of host names, such as ["www.example.com", "*.example.com"]`, func(text string) bool {
	name := strings.TrimPrefix(strings.TrimSuffix(text, "."), "*.")
	return len(name) < 254 && !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return !nameRule.MatchString(label) })
}))

// lowered makes the host names of a list what they are compared as.
func lowered(k kind) kind {
	parse := k.parse
	k.parse = func(raw any) (any, bool) {
		x, ok := parse(raw)
		if list, is := x.([]string); is && ok {
			for i := range list {
				list[i] = strings.TrimSuffix(strings.ToLower(list[i]), ".")
			}
		}
		return x, ok
	}
	return k
}

var alpnList = textList(`a list of protocols of 1 to 255 characters, such as ["h2", "http/1.1"]`, func(text string) bool {
	return len(text) > 0 && len(text) <= 255
})

// Words of send_proxy_tlvs.
const (
	TLVUniqueID  = "unique_id"
	TLVAuthority = "authority"
	TLVALPN      = "alpn"
	TLVChecksum  = "crc32c"
	TLVPassOn    = "pass"

	maxOwnTLV = 1024 // bytes of text; all together they must fit beside what is passed on
	maxTLVs   = 16
)

var tlvWords = []string{TLVUniqueID, TLVAuthority, TLVALPN, TLVChecksum, TLVPassOn}

var tlvList = textList(`a list of "`+strings.Join(tlvWords, `", "`)+`" and own ones such as "0xe0=text", from 0xe0 to 0xf7`, func(text string) bool {
	_, _, own := OwnTLV(text)
	return own || slices.Contains(tlvWords, text)
})

// OwnTLV takes an element such as "0xe0=text" of send_proxy_tlvs apart. The types are those
// that the specification leaves to users and for experiments.
func OwnTLV(text string) (kind uint8, value string, ok bool) {
	number, value, is := strings.Cut(text, "=")
	n, err := strconv.ParseUint(number, 0, 8)
	return uint8(n), value, is && err == nil && n >= 0xe0 && n <= 0xf7 && len(value) <= maxOwnTLV
}

// minPreambleBuffer is for what is read before a backend is dialed: it lies in the socket's buffer.
const minPreambleBuffer = 16 << 10

// maxRoutes is over all listeners: they travel to the workers in one message of 16 MiB.
const maxRoutes = 16384

func (b *builder) checkRouteNumbers() {
	n := 0
	for _, l := range b.config.Listeners {
		if n += len(l.Routes); n > maxRoutes {
			b.fault(b.origin[pathOf("listener", l.Name)], "brings all listeners together to %d routes: at most %d are possible", n, maxRoutes)
			return
		}
	}
}

// checkPreamble reports what the keys about the start of a connection say against each
// other.
func (b *builder) checkPreamble(l Listener) {
	table := pathOf("listener", l.Name)
	on := l.ProxyProtocol != ProxyOff
	switch {
	case on && len(l.ProxyProtocolFrom) == 0 && !l.onlyUnix():
		b.fault(b.origin[table+".proxy_protocol"], `needs proxy_protocol_from, the addresses that are believed, such as ["10.0.0.0/8"]; everybody is ["0.0.0.0/0", "::/0"]`)
	case !on && len(l.ProxyProtocolFrom) > 0:
		b.fault(b.origin[table+".proxy_protocol_from"], `needs proxy_protocol, such as proxy_protocol = "required": without it no header is read`)
	}
	if l.StartTLS != StartTLSOff && !slices.ContainsFunc(l.Routes, func(r Route) bool { return len(r.SNI)+len(r.ALPN) > 0 }) {
		b.fault(b.origin[table+".starttls"], `needs a route with sni or alpn: without one clients and backends agree on TLS by themselves`)
	}
	if l.Buffer > 0 && l.Buffer < minPreambleBuffer && (on || len(l.Routes) > 0) {
		b.fault(b.origin[table+".buffer"], "must be at least %d, or 0, where proxy_protocol or routes are used: what they read must fit into it", minPreambleBuffer)
	}
	seen := map[string]string{}
	for _, r := range l.Routes {
		path := table + "." + pathOf("route", r.Name)
		if at, given := b.origin[path+".pool"]; !given {
			b.fault(b.origin[path], `pool is missing: the name of the pool that takes the sessions`)
		} else if !b.broken["pool"] && !slices.ContainsFunc(b.config.Pools, func(p Pool) bool { return p.Name == r.Pool }) {
			b.unknownPool(at, r.Pool)
		}
		if len(r.SNI)+len(r.ALPN)+len(r.Source) == 0 {
			b.fault(b.origin[path], `matches every session: name sni, alpn or source, or make its pool the listener's`)
		}
		rest := fmt.Sprint(r.ALPN, Prefixes(r.Source))
		names := r.SNI
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			if other, twice := seen[name+rest]; twice && other == r.Name {
				b.fault(b.origin[path+".sni"], "%q stands there twice", name)
			} else if twice {
				b.fault(b.origin[path], "can never be taken: the route %q matches the same%s", other, named(name))
			}
			seen[name+rest] = r.Name
		}
	}
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(", %q", name)
}

func (b *builder) checkSendProxy(p Pool) {
	at := b.origin[pathOf("pool", p.Name)+".send_proxy_tlvs"]
	switch {
	case len(p.SendProxyTLVs) > 0 && p.SendProxy != SendProxyV2:
		b.fault(at, `needs send_proxy = "v2": no other header has them`)
	case len(p.SendProxyTLVs) > maxTLVs:
		b.fault(at, "has %d elements: at most %d are possible", len(p.SendProxyTLVs), maxTLVs)
	}
}
