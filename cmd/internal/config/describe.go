package config

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/cmd/internal/accesslog"
)

// Describe writes what would run, and what it needs of the machine, for people.
func (c Config) Describe(w io.Writer, needs string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	for _, l := range c.Listeners {
		row("listener "+l.Name, "%s -> pool %s, relay %s%s", l.Bind, l.Pool, l.Relay, l.notes())
		for _, r := range l.Routes {
			row("", "route %s: %s", r.Name, r)
		}
		row("", "ends sessions: idle %s, half-closed %s, first byte %s, in all %s", orOff(l.IdleTimeout),
			orOff(l.HalfClosedTimeout), orOff(l.FirstByteTimeout), orOff(l.MaxDuration))
	}
	for _, p := range c.Pools {
		row("pool "+p.Name, "%s, connect within %s, %d retries", p.Pick, short(p.ConnectTimeout), p.Retries)
		if p.MaxSessions > 0 {
			row("", "at most %d sessions on a backend", p.MaxSessions)
		}
		if p.Queue > 0 {
			row("", "at most %d wait %s for a place at one", p.Queue, short(p.QueueTimeout))
		}
		if p.MaxLoad > 0 {
			row("", "no backend has more than %s times its share", strconv.FormatFloat(p.MaxLoad, 'f', -1, 64))
		}
		if p.Health.Check != CheckOff {
			row("", "checked by %s", p.Health)
		}
		if p.OnDown == OnDownCut {
			row("", "sessions on a backend that is down are cut")
		}
		if p.PanicBelow > 0 {
			row("", "all are used when fewer than %s%% are healthy", strconv.FormatFloat(100*p.PanicBelow, 'f', -1, 64))
		}
		if p.Transparent {
			row("", "connects with the client's own address")
		}
		if p.Netns != "" {
			row("", "connects in network namespace %s", p.NetnsPath())
		}
		if p.MPTCP {
			row("", "connects by Multipath TCP where the backend can")
		}
		if p.SendProxy != SendProxyOff {
			row("", "sends a PROXY header, %s", strings.Join(append([]string{p.SendProxy}, p.SendProxyTLVs...), " "))
		}
		if said := p.Ejection.notes(); said != "" {
			row("", "%s", said)
		}
		if p.SlowStart > 0 {
			row("", "slow start %s", short(p.SlowStart))
		}
		if p.Leave == LeaveCut {
			row("", "sessions of backends that leave are cut")
		}
		if r := p.Rebalance; r.PerSecond > 0 {
			row("", "rebalanced by up to %d sessions a second, %s%% of all at a time", r.PerSecond, strconv.FormatFloat(100*r.Share, 'f', -1, 64))
		}
		for _, b := range p.Backends {
			row("", "%s", b)
		}
		if p.BackendsFile != "" {
			row("", "and those in %s", p.BackendsFile)
		}
	}
	a := c.Acceptors
	auto := ""
	if a.Count == 0 {
		auto = " (auto)"
	}
	row("acceptors", "%d%s, mode %s, steering %s, scheduling %s", a.Number(), auto, a.Mode, a.Steering, a.Scheduling)
	delay := ""
	if c.Limits.DrainDelay > 0 {
		delay = fmt.Sprintf(" after a delay of %s", short(c.Limits.DrainDelay))
	}
	row("sessions", "%s at a time, %s to drain%s", orNoLimit(c.Limits.MaxSessions), short(c.Limits.DrainTimeout), delay)
	if c.Admin.Listen == "" {
		row("admin", "off")
	} else {
		row("admin", "http://%s", c.Admin.Listen)
	}
	if c.Admin.Socket != SocketAuto { // auto is this machine's and this user's
		row("admin socket", "%s", cmp.Or(c.Admin.Socket, "off"))
	}
	if c.Reload.Watch {
		row("reload", "whenever the file changes")
	}
	if l := c.Log; l.Access != accesslog.Off {
		row("access log", "%s sessions to %s, %s", l.Access, l.AccessTo, l.AccessFormat)
	}
	if c.Log.Trace {
		row("trace", "each step of the last sessions is kept")
	}
	row("needs", "%s", needs)
	return t.Flush()
}

// notes are the settings of a listener that stand out.
func (l Listener) notes() string {
	text := ""
	for _, n := range []struct {
		on   bool
		name string
	}{
		{l.IPv6Only, "IPv6 only"}, {l.MPTCP, "MPTCP"}, {l.Netns != "", "in network namespace " + l.NetnsPath()}, {l.Share, "port shared with other instances"},
		{l.Access.Limited(), "access " + l.Access.String()},
		{l.Limit.String() != "", "at most " + l.Limit.String()},
		{l.Bandwidth != Bandwidth{}, "at most " + l.Bandwidth.String()},
		{l.ProxyProtocol != ProxyOff, fmt.Sprintf("PROXY header %s from %s", l.ProxyProtocol, strings.Join(l.ProxyProtocolFrom, " "))},
		{l.StartTLS != StartTLSOff, "answers " + l.StartTLS + " clients that ask for TLS"},
		{l.MaxSessions > 0, fmt.Sprintf("at most %d sessions", l.MaxSessions)},
		{l.WaitForBackend > 0, fmt.Sprintf("at most %d wait %s for a backend", l.MaxWaiting, short(l.WaitForBackend))},
	} {
		if n.on {
			text += ", " + n.name
		}
	}
	return text
}

func orOff(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return short(d)
}

func orNoLimit(n int) string {
	if n == 0 {
		return "any number"
	}
	return strconv.Itoa(n)
}

// TOML writes the Config as a file with every key; Parse makes the same Config
// of it. It is the way from flags to a file.
func (c Config) TOML() string {
	var b strings.Builder
	c.eachKey(func(table string) { fmt.Fprintf(&b, "\n[%s]\n", table) },
		func(path string, o option, s scope) { fmt.Fprintf(&b, "%s = %s\n", o.key(), literal(o.field(s))) })
	return b.String()
}

// eachKey goes through the tables, and the keys of each, as a file has them. Those at the
// top level come first, in no table.
func (c *Config) eachKey(table func(header string), key func(path string, o option, s scope)) {
	section := func(pattern, path string, s scope) {
		if path != "" {
			table(path)
		}
		for _, k := range keysOf(pattern) {
			if o, is := optionAt(strings.TrimPrefix(pattern+"."+k, ".")); is {
				key(strings.TrimPrefix(path+"."+k, "."), o, s)
			}
		}
	}
	s := scope{c: c}
	for _, path := range []string{"", "acceptors", "admin", "reload", "log", "limits", "dns"} {
		section(path, path, s)
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		section("listener.*", pathOf("listener", l.Name), scope{l: l})
		for j := range l.Routes {
			section("listener.*.route.*", pathOf("listener", l.Name)+"."+pathOf("route", l.Routes[j].Name), scope{r: &l.Routes[j]})
		}
	}
	for i := range c.Pools {
		section("pool.*", pathOf("pool", c.Pools[i].Name), scope{p: &c.Pools[i]})
		section("pool.*.ejection", pathOf("pool", c.Pools[i].Name)+".ejection", scope{p: &c.Pools[i]})
		section("pool.*.rebalance", pathOf("pool", c.Pools[i].Name)+".rebalance", scope{p: &c.Pools[i]})
		section("pool.*.health", pathOf("pool", c.Pools[i].Name)+".health", scope{p: &c.Pools[i]})
	}
}

// literal writes what a field's pointer points to as a TOML value.
func literal(field any) string {
	switch x := field.(type) {
	case *int, *bool, *float64:
		return plain(field)
	case *[]string:
		texts := make([]string, len(*x))
		for i, text := range *x {
			texts[i] = quote(text)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case *[]Backend:
		texts := make([]string, len(*x))
		for i, backend := range *x {
			texts[i] = quote(backend.String())
		}
		return "[" + strings.Join(texts, ", ") + "]"
	default:
		return quote(plain(field))
	}
}

// plain writes what a field's pointer points to without quotes.
func plain(field any) string {
	switch x := field.(type) {
	case *string:
		return *x
	case *int:
		return strconv.Itoa(*x)
	case *Auto:
		return x.String()
	case *bool:
		return strconv.FormatBool(*x)
	case *float64:
		return strconv.FormatFloat(*x, 'f', -1, 64)
	case *time.Duration:
		return short(*x)
	case *OrListener:
		return x.String()
	case *[]string:
		return strings.Join(*x, " ")
	case *[]netip.Addr:
		texts := make([]string, len(*x))
		for i, a := range *x {
			texts[i] = a.String()
		}
		return strings.Join(texts, " ")
	case *PortRange:
		return x.String()
	default:
		panic(fmt.Sprintf("config: no text for %T", field))
	}
}

// quote writes text as a basic string of TOML.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '$':
			b.WriteString("$$")
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
