package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// check reports what single options cannot know of: what is missing, names that
// lead nowhere, addresses that exclude each other.
func (b *builder) check() {
	if len(b.config.Listeners) == 0 && !b.broken["listener"] {
		b.fault(b.origin[""], `no listener: add [listener.NAME] with bind = ":PORT" and pool = "NAME"`)
	}
	b.checkNumbers()
	b.checkRouteNumbers()
	for _, l := range b.config.Listeners {
		b.checkListener(l)
	}
	for _, p := range b.config.Pools {
		table := pathOf("pool", p.Name)
		if b.isEmpty[table] && p.BackendsFile == "" {
			b.fault(b.origin[table+".backends"], "must be %s; got an empty one", backendList.must)
		}
		if _, given := b.origin[table+".backends"]; !given && p.BackendsFile == "" {
			b.fault(b.origin[table], `backends is missing, such as backends = ["10.0.0.1:8080"]`)
		}
		if d := DefaultPool(""); p.Keepalive == AsListener && (p.KeepaliveInterval != d.KeepaliveInterval || p.KeepaliveCount != d.KeepaliveCount) {
			at := b.origin[table+".keepalive_interval"]
			if p.KeepaliveInterval == d.KeepaliveInterval {
				at = b.origin[table+".keepalive_count"]
			}
			b.fault(at, `needs keepalive, such as keepalive = "30s": without it the listener's holds`)
		}
		b.checkSource(p)
		b.checkSendProxy(p)
		b.checkPick(p)
		b.checkQueue(p)
		b.checkHealth(p)
		b.checkEjection(p)
		b.checkRebalance(p)
	}
	if d := b.config.DNS; d.TTLMin > d.TTLMax {
		at := b.origin["dns.ttl_min"]
		if at.Key == "" {
			at = b.origin["dns.ttl_max"]
		}
		b.fault(at, "ttl_min is %s and ttl_max %s: a TTL cannot be at least the one and at most the other", short(d.TTLMin), short(d.TTLMax))
	}
	b.checkWrite()
	b.checkOverlaps()
	b.checkLoops(addressesHere)
}

// What the board has room for, see package metrics: each listener, pool and backend has
// cells of its own there.
const (
	maxListeners = 4096
	maxPools     = 4096
	maxBackends  = 65536 // over all pools; a name that has several addresses counts more than once as it runs
)

// checkNumbers reports the first of each kind that is too many.
func (b *builder) checkNumbers() {
	const tooMany = "is one too many of %d: at most %d are possible"
	if all := b.config.Listeners; len(all) > maxListeners {
		b.fault(b.origin[pathOf("listener", all[maxListeners].Name)], tooMany, len(all), maxListeners)
	} else if l, n := b.config.tooManyBinds(); n > 0 {
		b.fault(b.origin[pathOf("listener", l.Name)+".bind"], "brings all listeners together to %d addresses: at most %d are possible", n, maxListeners)
	}
	if all := b.config.Pools; len(all) > maxPools {
		b.fault(b.origin[pathOf("pool", all[maxPools].Name)], tooMany, len(all), maxPools)
	}
	backends := 0
	for _, p := range b.config.Pools {
		if backends += len(p.Backends); backends > maxBackends {
			b.fault(b.origin[pathOf("pool", p.Name)+".backends"], "brings all pools together to %d backends: at most %d are possible", backends, maxBackends)
			return
		}
	}
}

// pathOf is the path of a named table, as the scanner writes it.
func pathOf(table, name string) string { return toml.Key{table, name}.String() }

func (b *builder) checkListener(l Listener) {
	table := pathOf("listener", l.Name)
	if _, given := b.origin[table+".bind"]; !given {
		b.fault(b.origin[table], `bind is missing: the address to listen on, such as bind = ":8080"`)
	}
	at, given := b.origin[table+".pool"]
	switch {
	case !given:
		b.fault(b.origin[table], `pool is missing: the name of the pool that takes the sessions`)
	case !b.broken["pool"] && !slices.ContainsFunc(b.config.Pools, func(p Pool) bool { return p.Name == l.Pool }):
		b.unknownPool(at, l.Pool)
	}
	b.checkLimit(l)
	b.checkBandwidth(l)
	b.checkPreamble(l)
	b.checkBinds(l)
	b.checkUnix(l)
	if at, given := b.origin[table+".max_waiting"]; given {
		if _, given := b.origin[table+".wait_for_backend"]; !given && !l.Limit.bars() {
			b.fault(at, `needs wait_for_backend, such as wait_for_backend = "30s": without it no session waits`)
		}
	}
}

func (b *builder) unknownPool(at Fault, name string) {
	var names []string
	for _, p := range b.config.Pools {
		names = append(names, p.Name)
	}
	hint := DidYouMean(name, names)
	if hint == "" && len(names) > 0 {
		hint = ", there are: " + strings.Join(names, ", ")
	}
	b.fault(at, "there is no [%s]%s", pathOf("pool", name), hint)
}

// claim is an address that something will listen on.
type claim struct {
	key    string
	text   string
	port   uint16
	addr   netip.Addr // not valid: all addresses of the families
	v4, v6 bool       // families
	netns  string     // path of the network namespace; "" = sluice's own
}

func newClaim(key, text string, ipv6Only bool) (claim, bool) {
	address, err := parseAddress(text)
	if err != nil || address.Port() == 0 {
		return claim{}, false // reported already, switched off, or any free port
	}
	addr := address.Addr()
	c := claim{
		key: key, text: text, port: address.Port(), addr: addr,
		v4: addr.Is4() || !addr.IsValid() || addr == netip.IPv6Unspecified(),
		v6: !addr.Is4(),
	}
	if ipv6Only {
		c.v4 = false
	}
	if addr.IsValid() && addr.IsUnspecified() {
		c.addr = netip.Addr{}
	}
	return c, true
}

// overlaps is true if one connection could be meant for both. The kernel would
// prefer the more exact address; a user who wants that can name the others,
// too.
func (c claim) overlaps(d claim) bool {
	return c.port == d.port && c.netns == d.netns && (c.v4 && d.v4 || c.v6 && d.v6) &&
		(c.addr == d.addr || !c.addr.IsValid() || !d.addr.IsValid())
}

func (b *builder) checkOverlaps() {
	claims := map[uint16][]claim{} // by port: only those can overlap, and there may be thousands
	paths := map[string]claim{}
	overlap := func(key, text string, other claim) {
		where := ""
		if at := b.origin[other.key]; at.Line > 0 {
			where = fmt.Sprintf(" in line %d", at.Line)
		}
		b.fault(b.origin[key], "%q overlaps with %s %q%s", text, other.key, other.text, where)
	}
	add := func(key, text, netns string, ipv6Only bool) {
		if path, is := strings.CutPrefix(text, UnixPrefix); is {
			path = filepath.Clean(path)
			if other, taken := paths[path]; taken {
				overlap(key, text, other)
			}
			paths[path] = claim{key: key, text: text}
			return
		}
		c, ok := newClaim(key, text, ipv6Only)
		if !ok {
			return
		}
		c.netns = netns
		beside := claims[c.port]
		if i := slices.IndexFunc(beside, c.overlaps); i >= 0 {
			overlap(key, text, beside[i])
		}
		claims[c.port] = append(beside, c)
	}
	add("admin.listen", b.config.Admin.Listen, "", false)
	if path := b.config.Admin.Socket; path != "" && path != SocketAuto {
		add("admin.socket", UnixPrefix+path, "", false)
	}
	for _, l := range b.config.Listeners {
		for _, d := range l.Binds() {
			add(pathOf("listener", l.Name)+".bind", d.Address, l.NetnsPath(), d.IPv6Only)
		}
	}
}
